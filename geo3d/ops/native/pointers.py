"""Conversion of tensors to pointers: the one place that checks type, size, layout and device before a kernel runs.

It defines the kinds of arguments, the declaration of a compiled function (:mod:`geo3d.ops.native.kernels` holds one for
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
"""Several arrays, passed as an array of their addresses."""


class Spaced(NamedTuple):
    """Rows of ``width`` elements that begin ``stride`` elements apart."""

    rows: int
    width: int
    stride: int

    @property
    def extent(self) -> int:
        """Number of elements from the first to the last, gaps included."""
        return (self.rows - 1) * self.stride + self.width if self.rows > 0 and self.width > 0 else 0


Size = int | Spaced
Sizes = tuple[Size | list[int], ...]


class ArgumentError(TypeError):
    """An argument does not match a kernel's declaration: a bug in geo3d, not a mistake of its user."""


class Place:
    """Placeholder for a tensor in calls that are already bound; each run of them may get another tensor.

    Args:
        dtype: Type of the tensors.
        shape: Shape of the tensors.
    """

    def __init__(self, dtype: torch.dtype, *shape: int) -> None:
        self.dtype, self.shape = dtype, torch.Size(shape)
        self._parts: list[tuple[c_void_p, int]] = []

    def pointer(self, dtype: torch.dtype, size: Size, first: int = 0) -> c_void_p | None:
        """The address of element ``first``, updated by :meth:`put`; None if ``dtype`` or ``size`` do not fit."""
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
            ArgumentError: If its type or shape is not the expected one, or it is not dense or not on the CPU.
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

    def fresh(self) -> Tensor:
        """A new tensor at this place, not filled; the next call fills it, later ones do not touch it."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        self.put(tensor)
        return tensor


class Part(NamedTuple):
    """The elements of a place from ``first`` on."""

    place: Place
    first: int

    def pointer(self, dtype: torch.dtype, size: Size) -> c_void_p | None:
        """As :meth:`Place.pointer`, with this ``first``."""
        return self.place.pointer(dtype, size, self.first)


def told(value: Any) -> str:
    """Description of an argument for an error message."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    dense = "dense" if value.is_contiguous() else f"with strides {value.stride()}"
    return f"{value.dtype} {tuple(value.shape)}, {dense}, on {value.device}"


def pointer(value: Any, dtype: torch.dtype, size: Size) -> int | c_void_p | None:
    """The address of a tensor; None unless it is on the CPU, of this type and of exactly this size.

    Args:
        value: A tensor, or a place for one.
        dtype: The type it must have.
        size: The number of elements of a dense tensor, or how its rows are spaced.
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
    """An array among the arguments of a kernel."""

    place: int
    name: str
    dtype: torch.dtype
    optional: bool
    several: bool


class Kernel:
    """The declaration of a compiled function.

    Args:
        sizes: A function of the same name and arguments, annotated with their kinds, that returns each array's size.

    Attributes:
        symbol: Its name in the library.
        types: The ctypes of all arguments after ``threads``.
        arrays: The arrays among these arguments.
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
        """The arguments converted for C; the caller must keep the tensors alive while C uses their addresses.

        Raises:
            ArgumentError: If a tensor does not have the type, size, layout and device that the kernel expects.
        """
        converted = list(arguments)
        sizes: Any = self.sizes(*arguments)
        for (place, name, dtype, optional, several), size in zip(self.arrays, sizes, strict=True):
            value = converted[place]
            if value is None and optional:
                continue
            address = _addresses(value, dtype, size) if several else pointer(value, dtype, size)
            if address is None:
                raise ArgumentError(f"{self.symbol}: {name} must be {size} elements of {dtype}; found {told(value)}")
            converted[place] = address
        return converted


def _addresses(tensors: Sequence[Tensor], dtype: torch.dtype, sizes: list[int]) -> Any:
    """A C array of the tensors' addresses; None if one of them does not fit."""
    if not isinstance(tensors, Sequence) or len(tensors) != len(sizes):
        return None
    addresses: list[Any] = [pointer(tensor, dtype, size) for tensor, size in zip(tensors, sizes, strict=True)]
    return None if None in addresses else (c_int64 * len(addresses))(*addresses)


class Kernels(dict[str, Kernel]):
    """Kernels by name."""

    def declare(self, sizes: Callable[..., Sizes]) -> Callable[..., Sizes]:
        """Decorator that adds a declaration under the function's name."""
        self[sizes.__name__] = Kernel(sizes)
        return sizes


def rounded_up(count: int, to: int) -> int:
    """``count`` rounded up to a multiple of ``to``."""
    return count + -count % to


def full(channels: int) -> int:
    """``channels``, if it is a multiple of 16.

    Raises:
        ArgumentError: If it is not.
    """
    if channels % 16:
        raise ArgumentError(f"the kernel takes channels in multiples of 16; found {channels}")
    return channels
