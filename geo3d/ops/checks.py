"""Checks of the input before a torch reference runs; they raise the same errors as the compiled kernels.

A kernel checks the same values while it reads them, and its status becomes one of these errors. Values on a GPU are not
checked, because the check would have to wait for the GPU. Neither are values that ``torch.compile`` traces.
"""

from itertools import pairwise

import torch
from torch import Tensor

from geo3d.errors import CloudError
from geo3d.ops import native

MOST_ROWS = 2**31 - 1 - 1024
"""Clouds must have fewer rows than this in all, because kernels number the rows in 32 bits."""


def _seen(*tensors: Tensor) -> bool:
    return not torch.compiler.is_compiling() and all(tensor.device.type == "cpu" for tensor in tensors)


def check_device(what: str, *tensors: Tensor | None) -> None:
    """Check that all tensors are on one device; does not read their values.

    Raises:
        CloudError: If they are not.
    """
    devices = {tensor.device for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        names = ", ".join(sorted(str(device) for device in devices))
        raise CloudError(f"{what} must be on one device; found {names}; move them with .to(device)")


def check_form_of_offsets(what: str, ptr: Tensor) -> None:
    """Check that ``ptr`` has the shape (B + 1,) and an integer type; does not read its values.

    Raises:
        CloudError: If it does not.
    """
    if ptr.dim() != 1 or ptr.shape[0] < 2 or ptr.dtype not in (torch.int64, torch.int32):
        raise CloudError(f"{what} must be integer offsets (B + 1,) of clouds; found {ptr.dtype} {tuple(ptr.shape)}")


def check_offsets(what: str, ptr: Tensor, rows: int) -> None:
    """Check that offsets rise from 0 to ``rows`` without an empty cloud.

    Raises:
        CloudError: If they do not.
    """
    if not _seen(ptr):
        return
    ends = ptr.tolist()
    if rows >= MOST_ROWS or ends[0] != 0 or ends[-1] != rows or any(a >= b for a, b in pairwise(ends)):
        raise native.error(native.BAD_OFFSETS, what)


def check_finite(what: str, *tensors: Tensor) -> None:
    """Check that no tensor holds NaN or infinite values.

    Raises:
        NotFiniteError: If one does.
    """
    if any(_seen(tensor) and not bool(tensor.isfinite().all()) for tensor in tensors):
        raise native.error(native.NOT_FINITE, what)


def check_indices(what: str, index: Tensor, rows: int) -> None:
    """Check that indices lie in [0, rows).

    Raises:
        CloudError: If one does not.
    """
    if _seen(index) and index.numel() and not (int(index.min()) >= 0 and int(index.max()) < rows):
        raise native.error(native.BAD_INDEX, what)


def check_permutation(what: str, order: Tensor) -> None:
    """Check that ``order`` (P,) holds each of 0, ..., P - 1 once.

    Raises:
        CloudError: If it does not.
    """
    if _seen(order) and order.sort().values.tolist() != list(range(len(order))):
        raise native.error(native.BAD_INDEX, what)


def common_size(ptr: Tensor, told: int | None) -> int | None:
    """N if all clouds have N rows, else None. On a GPU and under ``torch.compile`` it is ``told``, unchecked."""
    if not _seen(ptr):
        return told
    sizes = set(ptr.diff().tolist())
    return sizes.pop() if len(sizes) == 1 else None
