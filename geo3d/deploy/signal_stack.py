"""Restores a thread's signal stack after a library has replaced it by one that the library may free.

With every compiled model OpenVINO gives the calling thread an alternate signal stack, and it frees that stack together
with the model. If models are freed in another order than they were created, the thread is left with a stack that is
already freed, and the next Ctrl-C is a segmentation fault.
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
    """Context after which this thread has the signal stack that it had before; does nothing on systems but Linux."""
    if sys.platform != "linux":
        yield
        return
    before = current()
    try:
        yield
    finally:
        ctypes.CDLL(None).sigaltstack(ctypes.byref(before), None)


def current() -> Stack:
    """The signal stack of this thread."""
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack
