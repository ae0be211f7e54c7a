"""Ctrl-C ends the command, even if a library swallows or replaces the KeyboardInterrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded() -> Iterator[None]:
    """Make the block end in a KeyboardInterrupt if Ctrl-C was pressed in it.

    Compiled code that calls Python may raise another exception instead (matplotlib: "Invalid bounding box"), or go on
    as if nothing had happened. Outside the main thread, or if somebody has set another handler for the signal, the
    block changes nothing.
    """
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt
