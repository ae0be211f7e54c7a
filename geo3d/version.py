"""The commit of the running geo3d."""

import subprocess
from pathlib import Path

import geo3d


def commit() -> str | None:
    """The commit of the checkout that geo3d runs from, followed by ``+`` if files differ; None outside a checkout."""
    root = Path(geo3d.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")


def short(name: str | None) -> str:
    """The first ten digits of a commit, and its ``+`` if it has one; "not known" for None.

    Example:
        >>> short("0123456789abcdef+"), short(None)
        ('0123456789+', 'not known')
    """
    return "not known" if name is None else name[:10] + "+" * name.endswith("+")
