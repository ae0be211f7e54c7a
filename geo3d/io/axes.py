"""Which way is up: every reader delivers z-up."""

from torch import Tensor

from geo3d.errors import ConfigError


def check_up(up: str) -> None:
    """Nothing, if ``up`` names an axis that is known here.

    Raises:
        ConfigError: If it is neither "y" nor "z".
    """
    if up not in ("y", "z"):
        raise ConfigError(f"up: expected 'y' or 'z' (the axis that points up in the files), found {up!r}")


def to_z_up(vectors: Tensor, up: str) -> Tensor:
    """(..., 3) points or normals, turned so that z points up: (x, y, z) -> (x, -z, y) when y did.

    Example:
        >>> import torch
        >>> to_z_up(torch.tensor([1.0, 2.0, 3.0]), "y").tolist()
        [1.0, -3.0, 2.0]
    """
    check_up(up)
    if up == "z":
        return vectors
    turned = vectors[..., [0, 2, 1]]
    turned[..., 1].neg_()
    return turned
