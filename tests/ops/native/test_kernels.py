"""What the kernels are declared with in Python is what they are declared with in C, and nothing else reaches them."""

import re
from ctypes import c_float, c_int64, c_void_p
from pathlib import Path

import pytest
import torch

from geo3d.ops import native
from geo3d.ops.native.kernels import KERNELS
from geo3d.ops.native.pointers import ArgumentError, Part, Place, Spaced, pointer

SOURCES = Path(native.__file__).parent / "src"
SCALARS = {"int64_t": c_int64, "float": c_float}
ELEMENTS = {
    "float": torch.float32, "double": torch.float64, "int8_t": torch.int8, "uint8_t": torch.uint8,
    "int32_t": torch.int32, "int64_t": torch.int64,
}  # fmt: skip
ROWS = {"of_points", "of_groups", "pos", "centers", "offset_weight", "neighbors"}
NULL = {
    "gather_max": {"slot"}, "linear": {"bias"}, "linear_packed": {"bias"}, "quantize": {"offset"},
    "fake_quantize": {"offset"}, "fake_quantize_backward": {"offset"}, "sliding_sum": {"order"},
    "sliding_spread": {"order"}, "grouped_max": ROWS, "grouped_train": ROWS,
    "grouped_backward": ROWS | {"d_of_points", "d_of_groups", "d_offset_weight"},
}  # fmt: skip
"""Pointers that the kernels look at before they follow them."""


def declarations() -> dict[str, list[tuple[str, str]]]:
    """Type and name of each argument behind ``threads`` of all functions that give a status."""
    found = {}
    for path in sorted(SOURCES.glob("*.cpp")):
        for name, inside in re.findall(r"GEO3D_API int32_t geo3d_(\w+)\(([^)]+)\)", path.read_text()):
            arguments = [re.fullmatch(r"(?:const )?(\w+\*?) ?(\w*)", each.strip()) for each in inside.split(",")]
            assert all(arguments), f"{name}: {inside}"
            assert arguments[0].group(1) == "int32_t", name
            found[name] = [(each.group(1), each.group(2)) for each in arguments[1:]]
    return found


def test_every_kernel_is_declared_as_in_c():
    declared = declarations()
    assert set(declared) == set(KERNELS)
    for name, arguments in declared.items():
        kernel = KERNELS[name]
        arrays = {array.place: array for array in kernel.arrays}
        assert len(arguments) == len(kernel.types), name
        for place, (of, label) in enumerate(arguments):
            if not of.endswith("*"):
                assert kernel.types[place] is SCALARS[of] and place not in arrays, (name, label)
                continue
            array = arrays[place]
            addresses = array.several and of == "int64_t*"
            assert kernel.types[place] is c_void_p and array.name == label, (name, label, array)
            assert addresses or array.dtype == ELEMENTS[of[:-1]], (name, label, array)
            assert array.several == (label.removeprefix("d_") in ("weights", "norms")), (name, label)
            assert array.optional == (label in NULL.get(name, ())), (name, label)


def arguments_for(name: str) -> list:
    """Some that fit: few rows, 16 channels, spaced rows 64 elements apart."""
    sizes = {"channels": 16, "columns": 16, "depth": 4, "layers": 2, "height": 2, "width": 64, "by_column": 0}
    kernel, given = KERNELS[name], []
    arrays = {array.place: array for array in kernel.arrays}
    labels = [label for _, label in declarations()[name]]
    for place, label in enumerate(labels):
        if place in arrays:
            given.append(torch.tensor([16, 16]) if label == "channels" else None)
        else:
            number = 64 if label.endswith("_stride") else sizes.get(label, 2)
            given.append(float(number) if kernel.types[place] is c_float else number)
    if name == "pool_backward":
        given[labels.index("ptr")] = torch.zeros(3, dtype=torch.int64)
    if name.startswith("grouped"):  # what is asked of pointers that are not needed in this form
        for label in (*ROWS, "d_of_points", "d_of_groups", "d_offset_weight"):
            if label in labels:
                given[labels.index(label)] = torch.empty(0)
    for array, size in zip(kernel.arrays, kernel.sizes(*given), strict=True):
        if array.several:
            given[array.place] = [torch.zeros(each, dtype=array.dtype) for each in size]
        elif array.name != "channels":
            given[array.place] = of_size(size, array.dtype)
    return given


def of_size(size, dtype):
    if not isinstance(size, Spaced):
        return torch.zeros(size, dtype=dtype)
    return torch.zeros(size.rows, size.stride, dtype=dtype)[:, : size.width]


def wrong(tensor: torch.Tensor) -> dict[str, object]:
    other = torch.float64 if tensor.dtype != torch.float64 else torch.float32
    apart = torch.zeros(*tensor.shape, 2, dtype=tensor.dtype)[..., 0]
    values = {
        "another type": tensor.to(other),
        "half precision": tensor.to(torch.bfloat16),
        "too small": tensor[:-1],
        "too large": torch.cat([tensor, tensor]),
        "not dense": apart,
        "elsewhere": tensor.to("meta"),
        "a list": tensor.tolist(),
        "a number": 3,
    }
    return {what: value for what, value in values.items() if what != "not dense" or tensor.numel() > 1}


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_nothing_else_becomes_a_pointer(name):
    kernel, given = KERNELS[name], arguments_for(name)
    kernel.bound(given)
    for array in kernel.arrays:
        if array.name == "channels":
            continue
        right = given[array.place]
        first = right[0] if array.several else right
        for what, value in wrong(first).items():
            if name == "pool_backward" and array.name == "ptr" and what in ("too small", "too large"):
                continue  # the number of clouds is taken from it; the others do not fit then
            changed = list(given)
            changed[array.place] = [value, *right[1:]] if array.several else value
            with pytest.raises(ArgumentError, match=array.name):
                kernel.bound(changed)
        if not array.optional:
            with pytest.raises(ArgumentError):
                kernel.bound([None if i == array.place else value for i, value in enumerate(given)])


@pytest.mark.parametrize("name", sorted(name for name in KERNELS if name.startswith("grouped")))
def test_edges_of_a_table_need_all_their_parts(name):
    labels, given = [label for _, label in declarations()[name]], arguments_for(name)
    for label in ("pos", "centers", "offset_weight"):
        missing = [None if other == label else value for other, value in zip(labels, given, strict=True)]
        with pytest.raises(ArgumentError, match="edges with offsets need positions, centres"):
            KERNELS[name].bound(missing)
    gone = ("of_points", "d_of_points", "pos", "centers", "offset_weight", "d_offset_weight")
    missing = [None if label in gone else value for label, value in zip(labels, given, strict=True)]
    with pytest.raises(ArgumentError, match="edges to neighbors need of_points or offsets"):
        KERNELS[name].bound(missing)


def test_rows_may_lie_apart_only_as_far_as_is_said():
    rows = torch.zeros(3, 8)[:, 2:6]
    assert pointer(rows, torch.float32, Spaced(3, 4, 8)) == rows.data_ptr()
    for size in (Spaced(3, 4, 7), Spaced(4, 4, 8), Spaced(3, 5, 8), Spaced(3, 4, 4), 12):
        assert pointer(rows, torch.float32, size) is None
    assert pointer(rows.t(), torch.float32, Spaced(4, 3, 8)) is None
    overlapping = torch.zeros(8).as_strided((3, 4), (2, 1))
    assert pointer(overlapping, torch.float32, Spaced(3, 4, 2)) is None


def test_a_place_takes_what_was_said_and_moves_all_its_pointers():
    place = Place(torch.float32, 3, 8)
    whole, part = place.pointer(torch.float32, 24), Part(place, 2).pointer(torch.float32, Spaced(3, 6, 8))
    for dtype, size, first in (
        (torch.float64, 24, 0), (torch.float32, 25, 0), (torch.float32, Spaced(3, 7, 8), 2),
        (torch.float32, Spaced(4, 8, 8), 0), (torch.float32, 24, 1), (torch.float32, Spaced(3, 6, 4), 0),
    ):  # fmt: skip
        assert place.pointer(dtype, size, first) is None
    for _ in range(2):
        tensor = torch.zeros(3, 8)
        place.put(tensor)
        assert (whole.value, part.value) == (tensor.data_ptr(), tensor.data_ptr() + 8)
    for bad in (torch.zeros(3, 8).double(), torch.zeros(24), torch.zeros(8, 3).t(), torch.zeros(3, 8, device="meta")):
        with pytest.raises(ArgumentError, match="bound call"):
            place.put(bad)


@pytest.mark.skipif(not native.builds(), reason="the compiled kernels are not installed")
def test_a_refused_call_touches_nothing():
    x, ptr, out = torch.zeros(4, 3), torch.tensor([0, 4]), torch.full((4, 2), -1)
    with native.using("portable"), pytest.raises(ArgumentError, match="geo3d_knn: x must be"):
        native.call("knn", 1, 3, 2, 1, 4, x.double(), ptr, 4, x, ptr, 1536, out)
    assert (out == -1).all()
