"""Warnings as a user of the command line meets them: geo3d's own in one line each, those of libraries on demand."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import geo3d


@contextmanager
def as_notes() -> Iterator[None]:
    """Within the block each distinct warning of geo3d is one line ``geo3d: note: MESSAGE`` on the error stream.

    What libraries warn of concerns whoever calls them, not whoever types a command; it is shown as Python shows it when
    ``-W`` or ``PYTHONWARNINGS`` asks for warnings.
    """
    with warnings.catch_warnings():
        usual, said = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if geo3d_says(str(message)):
                text = " ".join(str(message).split())
                if text not in said and int(os.environ.get("LOCAL_RANK", 0)) == 0:
                    said.add(text)
                    print(f"geo3d: note: {text}", file=sys.stderr)
            elif sys.warnoptions:
                usual(message, category, *place, **more)

        warnings.showwarning = show
        yield


def geo3d_says(text: str) -> bool:
    """Whether the function that is issuing a warning is one of geo3d.

    The file of a warning does not tell: with ``stacklevel`` it is that of any caller, and PyTorch's compiled part gives
    the line of Python that it was called from.
    """
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "warnings", "_py_warnings"):
        frame = frame.f_back
    return (
        frame.f_globals.get("__name__", "").partition(".")[0] == geo3d.__name__ and "Triggered internally" not in text
    )
