"""Warnings on the command line: those of geo3d in one line each, those of libraries only on demand."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import geo3d


@contextmanager
def as_notes() -> Iterator[None]:
    """Print each distinct warning of geo3d in the block as one line ``geo3d: note: MESSAGE`` on the error stream.

    Warnings of libraries concern the developers who call them, not the user of a command. Python shows them as usual if
    ``-W`` or ``PYTHONWARNINGS`` asks for warnings; otherwise they are dropped.
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
    """Whether the function that issues the warning belongs to geo3d.

    The file of a warning does not tell: with ``stacklevel`` it is the file of a caller, and for warnings from PyTorch's
    compiled code it is the file of the Python line that called it.
    """
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__") in (__name__, "warnings", "_py_warnings"):
        frame = frame.f_back
    return (
        frame.f_globals.get("__name__", "").partition(".")[0] == geo3d.__name__ and "Triggered internally" not in text
    )
