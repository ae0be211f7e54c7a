"""Ctrl-C as a user of the command line means it: the command ends, whatever a library makes of it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def heeded() -> Iterator[None]:
    """After Ctrl-C within the block, the block ends in a KeyboardInterrupt.

    Compiled code that calls Python may make another exception of it (matplotlib says "Invalid bounding box"), or go on
    as if nothing had come. Signals belong to the main thread and to whoever set a handler: where either is another one,
    they are left alone.
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
