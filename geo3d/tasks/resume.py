"""The file from which a killed run continues, with the run it belongs to and a checksum.

It begins with a line of text, ``geo3d-run 1 RUN SHA256``; then come the bytes that torch writes. RUN is a hash of the
settings and the data of the run, SHA256 a checksum of the bytes, as torch itself does not notice a flipped bit.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from geo3d.checkpoint.upgrade import upgrade_state
from geo3d.errors import CheckpointError
from geo3d.io.files import replacing

LAST = "last.ckpt"
FORM = b"geo3d-run 1 "
ZIP = b"PK"  # the first bytes of the files that torch writes
HEADER = len(FORM) + 64 + 1 + 64 + 1
ANEW = "delete it to start anew, or give another out=DIR"


class ResumeFile(CheckpointIO):
    """Writes and reads ``last.ckpt`` for Lightning. Only tensors and plain values are unpickled.

    Args:
        run: The run folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the file. The one before is replaced only when the new one is complete."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        body = content.getvalue()
        with replacing(path) as draft, draft.open("wb") as file:
            file.write(FORM + f"{identity(self.run)} {hashlib.sha256(body).hexdigest()}\n".encode())
            file.write(body)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The saved state of the run.

        Raises:
            CheckpointError: If the file is damaged, belongs to another run, or has another form.
        """
        content = Path(path).read_bytes()
        header, body = content[:HEADER], content[HEADER:]
        if content.startswith(ZIP):
            raise CheckpointError(f"{path}: has no checksum, as before geo3d 0.2.0, and cannot be continued; {ANEW}")
        if not header.startswith(FORM) or header[-66:] != f" {hashlib.sha256(body).hexdigest()}\n".encode():
            raise CheckpointError(f"{path}: damaged or cut off; {ANEW}")
        if header[len(FORM) : -66] != identity(self.run).encode():
            raise CheckpointError(f"{path}: belongs to another run, with other settings or data; {ANEW}")
        try:
            state = torch.load(io.BytesIO(body), map_location=map_location, weights_only=True)
        except Exception as error:  # bytes with a valid checksum that torch did not write may raise anything
            raise CheckpointError(f"{path}: cannot be read ({type(error).__name__}); {ANEW}") from error
        if not isinstance(state, dict):
            raise CheckpointError(f"{path}: expected the state of a run, found {type(state).__name__}; {ANEW}")
        if "state_dict" in state:
            state["state_dict"] = upgrade_state(state["state_dict"])
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete the file."""
        Path(path).unlink(missing_ok=True)


def identity(run: Path) -> str:
    """SHA-256, in 64 hex digits, of the settings and the data manifest of a run."""
    digest = hashlib.sha256()
    for name in ("settings.json", "manifest.json"):
        path = run / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()
