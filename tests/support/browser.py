"""Headless Chromium, driven through chromedriver's own protocol, for tests of pages."""

import base64
import io
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-unsafe-swiftshader", "--force-device-scale-factor=1",
)  # fmt: skip


class Browser:
    """An open window."""

    def __init__(self, session: str) -> None:
        self.session = session

    def post(self, path: str, **body: Any) -> Any:
        """What the driver answers to a command."""
        return _asked(f"{self.session}/{path}", body)

    def open(self, page: Path) -> None:
        """Open a file, and wait until it is drawn."""
        self.post("url", url=page.absolute().as_uri())
        time.sleep(0.5)

    def run(self, script: str) -> Any:
        """The value that a script returns."""
        return self.post("execute/sync", script=script, args=[])

    def picture(self) -> np.ndarray:
        """(height, width, 3) uint8, what the window shows."""
        content = base64.b64decode(_asked(f"{self.session}/screenshot", None))
        return np.array(Image.open(io.BytesIO(content)).convert("RGB"))

    def complaints(self) -> list[str]:
        """Messages in the console that are more than information."""
        log = self.post("se/log", type="browser")
        bad = [each["message"] for each in log if each["level"] in ("WARNING", "SEVERE")]
        return [message for message in bad if "GPU stall due to ReadPixels" not in message]  # of screenshots

    def mouse(self, *steps: dict[str, Any]) -> None:
        """Carry out actions of the mouse."""
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": list(steps)}
        self.post("actions", actions=[pointer])
        time.sleep(0.4)

    def key(self, letter: str) -> None:
        """Press a key."""
        steps = [{"type": kind, "value": letter} for kind in ("keyDown", "keyUp")]
        self.post("actions", actions=[{"type": "key", "id": "keys", "actions": steps}])
        time.sleep(0.4)


@contextmanager
def browser(folder: Path, width: int, height: int) -> Iterator[Browser]:
    """A window of this size; the test is skipped where there is no Chromium."""
    driver, program = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root = f"http://127.0.0.1:{port}"
    try:
        _wait(root)
        args = [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={folder / 'profile'}"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"binary": program, "args": args},
                  "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        made = _asked(f"{root}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{root}/session/{made['sessionId']}"
        yield Browser(session)
        with suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(session, method="DELETE"), timeout=20)
    finally:
        server.kill()
        server.wait()


def _asked(address: str, body: Any) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["value"]


def _wait(root: str) -> None:
    for _ in range(200):
        with suppress(OSError):
            urllib.request.urlopen(f"{root}/status", timeout=5)
            return
        time.sleep(0.1)
    raise TimeoutError("chromedriver does not answer")
