"""Where tensors become pointers: the one place that looks at type, size, layout and device before a kernel runs.

Kinds of arguments, what a compiled function is declared with (:mod:`geo3d.ops.native.kernels` holds one declaration for
each), and places for tensors that come later.
"""

from collections.abc import Callable, Sequence
from ctypes import c_float, c_int64, c_void_p
from inspect import signature
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import torch
from torch import Tensor

F32 = Annotated[Tensor, torch.float32]
F64 = Annotated[Tensor, torch.float64]
I8 = Annotated[Tensor, torch.int8]
U8 = Annotated[Tensor, torch.uint8]
I32 = Annotated[Tensor, torch.int32]
I64 = Annotated[Tensor, torch.int64]
F32s = Annotated[Sequence[Tensor], torch.float32]
"""Several arrays, handed over as an array of their addresses."""


class Spaced(NamedTuple):
    """Rows of ``width`` elements, each ``stride`` elements behind the one before."""

    rows: int
    width: int
    stride: int

    @property
    def extent(self) -> int:
        """Elements from the first to the last."""
        return (self.rows - 1) * self.stride + self.width if self.rows > 0 and self.width > 0 else 0


Size = int | Spaced
Sizes = tuple[Size | list[int], ...]


class ArgumentError(TypeError):
    """A kernel was to be called with something that it is not declared with: a fault inside geo3d, not of its user."""


class Place:
    """Room for the address of a tensor that comes anew with each run of calls that are bound already.

    Args:
        dtype: Of the tensors that will come.
        shape: Of them.
    """

    def __init__(self, dtype: torch.dtype, *shape: int) -> None:
        self.dtype, self.shape = dtype, torch.Size(shape)
        self._parts: list[tuple[c_void_p, int]] = []

    def pointer(self, dtype: torch.dtype, size: Size, first: int = 0) -> c_void_p | None:
        """What follows the address of element ``first``; None where this is not the room that is asked for."""
        room = self.shape.numel() - first
        fits = size.extent <= room and size.stride >= size.width if isinstance(size, Spaced) else size == room
        if dtype != self.dtype or first < 0 or not fits:
            return None
        address = c_void_p()
        self._parts.append((address, first * dtype.itemsize))
        return address

    def put(self, tensor: Tensor) -> None:
        """Let the bound calls work on this tensor.

        Raises:
            ArgumentError: If it is not what was said to come.
        """
        if tensor.dtype is not self.dtype or tensor.shape != self.shape or not (
            tensor.is_cpu and tensor.is_contiguous()
        ):  # fmt: skip
            raise ArgumentError(
                f"a bound call needs dense {self.dtype} {tuple(self.shape)} on the CPU; found {told(tensor)}"
            )
        start = tensor.data_ptr()
        for address, offset in self._parts:
            address.value = start + offset


class Part(NamedTuple):
    """The elements of a place from ``first`` on."""

    place: Place
    first: int

    def pointer(self, dtype: torch.dtype, size: Size) -> c_void_p | None:
        """As for the place."""
        return self.place.pointer(dtype, size, self.first)


def told(value: Any) -> str:
    """What an error says of an argument."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    dense = "dense" if value.is_contiguous() else f"with strides {value.stride()}"
    return f"{value.dtype} {tuple(value.shape)}, {dense}, on {value.device}"


def pointer(value: Any, dtype: torch.dtype, size: Size) -> int | c_void_p | None:
    """The address of a tensor on the CPU of this type that holds ``size`` elements and no other; None if it is not.

    Args:
        value: A tensor, or a place where one will be.
        dtype: Its type.
        size: How many elements, one after another, or how they are spaced.
    """
    if not isinstance(value, Tensor):
        return value.pointer(dtype, size) if isinstance(value, Place | Part) else None
    if value.dtype is not dtype or not value.is_cpu:
        return None
    if not isinstance(size, Spaced):
        return value.data_ptr() if value.numel() == size and value.is_contiguous() else None
    if value.dim() != 2 or tuple(value.shape) != size[:2]:
        return None
    laid = value.numel() == 0 or (
        value.stride(0) == size.stride and (value.stride(1) == 1 or size.width == 1) and size.stride >= size.width
    )
    return value.data_ptr() if laid else None


class Array(NamedTuple):
    """An argument that is an array."""

    place: int
    name: str
    dtype: torch.dtype
    optional: bool
    several: bool


class Kernel:
    """A compiled function as it is declared.

    Args:
        sizes: A function of the same name and arguments, annotated with their kinds, that gives the size of each array.

    Attributes:
        symbol: Its name in the library.
        types: The ctypes of all arguments behind ``threads``.
        arrays: Those of them that are arrays.
    """

    def __init__(self, sizes: Callable[..., Sizes]) -> None:
        self.symbol, self.sizes = f"geo3d_{sizes.__name__}", sizes
        hints = get_type_hints(sizes, include_extras=True)
        self.types: list[Any] = []
        self.arrays: list[Array] = []
        for place, name in enumerate(signature(sizes).parameters):
            hint = hints[name]
            self.types.append({int: c_int64, float: c_float}.get(hint, c_void_p))
            if self.types[-1] is c_void_p:
                of, *rest = [each for each in get_args(hint) if each is not type(None)]
                optional = not rest  # a union of the type and None
                kind, dtype = get_args(of) if optional else (of, rest[0])
                self.arrays.append(Array(place, name, dtype, optional, kind is not Tensor))

    def bound(self, arguments: Sequence[Any]) -> list[Any]:
        """The arguments as C takes them; tensors must live as long as their addresses are used.

        Raises:
            ArgumentError: If a tensor has not the type, the size, the layout or the device that the kernel expects.
        """
        given = list(arguments)
        sizes: Any = self.sizes(*arguments)
        for (place, name, dtype, optional, several), size in zip(self.arrays, sizes, strict=True):
            value = given[place]
            if value is None and optional:
                continue
            found = _addresses(value, dtype, size) if several else pointer(value, dtype, size)
            if found is None:
                raise ArgumentError(f"{self.symbol}: {name} must be {size} elements of {dtype}; found {told(value)}")
            given[place] = found
        return given


def _addresses(tensors: Sequence[Tensor], dtype: torch.dtype, sizes: list[int]) -> Any:
    """A C array of the tensors' addresses; None if one of them does not fit."""
    if not isinstance(tensors, Sequence) or len(tensors) != len(sizes):
        return None
    found: list[Any] = [pointer(tensor, dtype, size) for tensor, size in zip(tensors, sizes, strict=True)]
    return None if None in found else (c_int64 * len(found))(*found)


class Kernels(dict[str, Kernel]):
    """Kernels by their names."""

    def declare(self, sizes: Callable[..., Sizes]) -> Callable[..., Sizes]:
        """Decorator of a declaration."""
        self[sizes.__name__] = Kernel(sizes)
        return sizes


def rounded_up(count: int, to: int) -> int:
    """The count, rounded up to a multiple."""
    return count + -count % to


def full(channels: int) -> int:
    """The channels, which are taken in full vectors."""
    if channels % 16:
        raise ArgumentError(f"the kernel takes channels in multiples of 16; found {channels}")
    return channels
