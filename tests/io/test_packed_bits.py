import random

import pytest
import torch

from geo3d.checkpoint.bits import pack_bits, packed_size, unpack_bits
from geo3d.errors import CheckpointError


def limits(bits, signed):
    return (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (8,), (5, 13), (2, 3, 4), ()])
def test_codes_come_back(bits, signed, shape):
    low, high = limits(bits, signed)
    kind = torch.int8 if signed else torch.uint8
    codes = torch.randint(low, high, shape, generator=torch.Generator().manual_seed(bits), dtype=torch.int64).to(kind)
    packed = pack_bits(codes, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_size(codes.numel(), bits) == (codes.numel() * bits + 7) // 8
    back = unpack_bits(packed, bits, shape, signed)
    assert back.dtype == kind
    assert torch.equal(back, codes)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
def test_every_code_survives(bits, signed):
    codes = torch.arange(*limits(bits, signed)).to(torch.int8 if signed else torch.uint8)
    assert torch.equal(unpack_bits(pack_bits(codes, bits), bits, codes.shape, signed), codes)


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_bits_lie_lowest_first(bits):
    draw = random.Random(bits)
    codes = [draw.randrange(2**bits) for _ in range(21)]
    number = sum(code << (bits * i) for i, code in enumerate(codes))
    expected = list(number.to_bytes(packed_size(len(codes), bits), "little"))
    assert pack_bits(torch.tensor(codes, dtype=torch.uint8), bits).tolist() == expected


@pytest.mark.parametrize(
    ("codes", "bits", "says"),
    [
        (torch.tensor([4], dtype=torch.uint8), 2, "0 to 3"),
        (torch.tensor([2], dtype=torch.int8), 2, "-2 to 1"),
        (torch.tensor([-65], dtype=torch.int8), 7, "-64 to 63"),
        (torch.tensor([1.0]), 4, "float32"),
        (torch.tensor([1], dtype=torch.int8), 1, "2 to 8 bits"),
    ],
)
def test_what_does_not_fit_is_refused(codes, bits, says):
    with pytest.raises(CheckpointError, match=says):
        pack_bits(codes, bits)


def test_a_file_cut_short_is_refused():
    packed = pack_bits(torch.zeros(9, dtype=torch.int8), 3)
    with pytest.raises(CheckpointError, match="take 4 bytes"):
        unpack_bits(packed[:-1], 3, (9,), signed=True)
    with pytest.raises(CheckpointError, match="damaged"):
        unpack_bits(packed.to(torch.int32), 3, (9,), signed=True)
