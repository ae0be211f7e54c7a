"""Integers of 2 to 8 bits packed without gaps: a file of 4-bit codes takes half the bytes of a file of 8-bit codes."""

import torch
from torch import Tensor

from geo3d.errors import CheckpointError

SMALLEST, LARGEST = 2, 8


def packed_size(count: int, bits: int) -> int:
    """Number of bytes that ``count`` codes of ``bits`` bits take.

    Example:
        >>> packed_size(10, 3)
        4
    """
    return -(-count * bits // 8)


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """(ceil(n bits / 8),) uint8: the n codes one after another, the lowest bit of each first.

    Eight codes fill exactly ``bits`` bytes. Zeros pad the last byte. Negative codes are stored as two's complement.

    Args:
        codes: Integers of any shape that fit into ``bits`` bits: 0 to 2^bits - 1 if the dtype is uint8, otherwise
            -2^(bits - 1) to 2^(bits - 1) - 1.
        bits: 2 to 8.

    Raises:
        CheckpointError: If a code does not fit, the codes are not integers, or ``bits`` is not from 2 to 8.

    Example:
        >>> pack_bits(torch.tensor([1, -1, 0, -2], dtype=torch.int8), 2).tolist()
        [141]
    """
    _check(bits)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise CheckpointError(f"only integers can be packed; found codes of {codes.dtype}; round them first")
    low, high = (0, 2**bits - 1) if codes.dtype == torch.uint8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if codes.numel():
        smallest, largest = int(codes.min()), int(codes.max())
        if smallest < low or largest > high:
            raise CheckpointError(
                f"codes of {bits} bits lie from {low} to {high}; found {smallest} to {largest}; use more bits"
            )
    flat = codes.detach().flatten().to("cpu", torch.int64) & (2**bits - 1)
    groups = torch.nn.functional.pad(flat, (0, -len(flat) % 8)).view(-1, 8)
    words = (groups << torch.arange(0, 8 * bits, bits)).sum(
        1
    )  # bits do not overlap; the 64th is the sign's, which fits
    spread = (words[:, None] >> torch.arange(0, 8 * bits, 8)) & 255
    return spread.to(torch.uint8).flatten()[: packed_size(len(flat), bits)].clone()


def unpack_bits(packed: Tensor, bits: int, shape: torch.Size | tuple[int, ...] | list[int], signed: bool) -> Tensor:
    """Codes of the given shape that :func:`pack_bits` packed: int8 if ``signed``, else uint8.

    Args:
        packed: (ceil(n bits / 8),) uint8.
        bits: 2 to 8.
        shape: Shape of the codes; n is the product of its sizes.
        signed: Whether the codes were packed from a signed dtype.

    Raises:
        CheckpointError: If ``packed`` is not of that dtype and length, or ``bits`` is not from 2 to 8.

    Example:
        >>> unpack_bits(torch.tensor([141], dtype=torch.uint8), 2, (2, 2), signed=True).tolist()
        [[1, -1], [0, -2]]
    """
    _check(bits)
    count = torch.Size(shape).numel()
    if packed.dtype != torch.uint8 or packed.dim() != 1 or len(packed) != packed_size(count, bits):
        raise CheckpointError(
            f"{count} codes of {bits} bits take {packed_size(count, bits)} bytes; "
            f"found {tuple(packed.shape)} of {packed.dtype}; the weights are damaged"
        )
    filled = torch.nn.functional.pad(packed.to(torch.int64), (0, -len(packed) % bits)).view(-1, bits)
    words = (filled << torch.arange(0, 8 * bits, 8)).sum(1)
    codes = ((words[:, None] >> torch.arange(0, 8 * bits, bits)) & (2**bits - 1)).flatten()[:count]
    if signed:
        codes = (codes ^ 2 ** (bits - 1)) - 2 ** (bits - 1)  # carries the sign up
    return codes.to(torch.int8 if signed else torch.uint8).view(torch.Size(shape))


def _check(bits: int) -> None:
    if not SMALLEST <= bits <= LARGEST:
        raise CheckpointError(f"codes have {SMALLEST} to {LARGEST} bits; found {bits}")
