"""A virtual screen with keyboard and mouse, for tests of windows."""

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest


class Screen:
    """A running Xvfb."""

    def __init__(self, folder: Path, display: str) -> None:
        self.folder, self.env = folder, os.environ | {"DISPLAY": display, "XDG_RUNTIME_DIR": str(folder)}

    def picture(self) -> np.ndarray:
        """(height, width, 3) uint8, what the screen shows: Xvfb keeps it in a file of the format of xwd."""
        content = (self.folder / "Xvfb_screen0").read_bytes()
        header = struct.unpack(">25I", content[:100])
        start, width, height, line = header[0] + 12 * header[19], header[4], header[5], header[12]
        pixels = np.frombuffer(content, np.uint8, line * height, start).reshape(height, line // 4, 4)
        return pixels[:, :width, 2::-1].copy()

    def tool(self, *words: str) -> list[str]:
        """What xdotool prints."""
        return subprocess.run(["xdotool", *words], env=self.env, capture_output=True, text=True).stdout.split()

    def window(self, name: str, seconds: float = 60) -> str:
        """The number of the window whose name matches, as soon as it is there; it gets the keyboard."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if numbers := self.tool("search", "--name", name):
                time.sleep(1.0)
                self.tool("windowfocus", numbers[-1])
                return numbers[-1]
            time.sleep(0.3)
        raise TimeoutError(f"no window with {name} in its name")

    def until(self, holds, seconds: float = 30) -> None:  # type: ignore[no-untyped-def]
        """Wait until ``holds()`` is true, at most so long; the test fails otherwise."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.2)


@contextmanager
def screen(folder: Path) -> Iterator[Screen]:
    """A screen of 1600 x 900 pixels; the test is skipped where there is none."""
    if missing := [name for name in ("Xvfb", "xdotool") if shutil.which(name) is None]:
        pytest.skip(f"needs {' and '.join(missing)}: apt-get install xvfb xdotool")
    shown, told = os.pipe()
    # Without -noreset it begins anew when its last window has closed, and refuses the next one meanwhile.
    words = ["Xvfb", "-noreset", "-displayfd", str(told), "-screen", "0", "1600x900x24", "-fbdir", str(folder)]
    server = subprocess.Popen(words, stderr=subprocess.DEVNULL, pass_fds=(told,))
    os.close(told)
    try:
        with os.fdopen(shown) as numbers:
            number = numbers.readline().strip()
        yield Screen(folder, f":{number}")
    finally:
        server.kill()
        server.wait()
