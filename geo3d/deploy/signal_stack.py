"""The memory on which signals are handled, kept as it is where a library leaves memory there that it frees.

OpenVINO gives the calling thread a stack for signals with every compiled model and takes it back with it. Models that
go in another order than they came leave one that is freed, and the next Ctrl-C is a segmentation fault.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextmanager
def kept() -> Iterator[None]:
    """After the block this thread handles signals where it did before; on Linux, the only system it is needed on."""
    if sys.platform != "linux":
        yield
        return
    before = current()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def current() -> Stack:
    """Where this thread handles signals."""
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack
