"""Builds an ONNX graph node by node, with readable names."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from geo3d.errors import ConfigError

IR_VERSION = 10
"""Version of the file format, which runtimes since 2024 can read. It allows operator sets up to 23."""

OPSETS = range(18, 24)
"""Operator sets in which the nodes are valid: from 18 on, reductions take their axes as an input."""

INT4_FROM = 21
"""The first operator set with int4."""

Value = str | np.ndarray[Any, Any]


def required(name: str) -> Any:
    """The module with this name, imported.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(f"{name} is not installed; pip install geo3d[export] brings it") from None


class Graph:
    """Nodes, constants, inputs and outputs of one ONNX graph, in the order in which they are added.

    Values are referred to by name. Wherever a value is expected, an array may be passed, which becomes a constant.
    Equal constants are stored once.

    Args:
        name: Name of the graph.
        opset: The operator set, one of ``OPSETS``.
        as_codes: Whether layers store rounded matrices as codes.
        int4: Whether layers store codes that fit into four bits as int4; needs operator set 21 or later.

    Raises:
        ConfigError: If onnx is not installed, or the operator set does not fit.

    Example:
        >>> graph = Graph("twice", 21)  # doctest: +SKIP
        >>> x = graph.input("x", np.float32, ["rows", 3])  # doctest: +SKIP
        >>> graph.output("y", graph.op("Mul", x, np.float32(2)), np.float32, ["rows", 3])  # doctest: +SKIP
    """

    def __init__(self, name: str, opset: int, as_codes: bool = False, int4: bool = False) -> None:
        if opset not in OPSETS:
            raise ConfigError(f"opset must be from {OPSETS[0]} to {OPSETS[-1]}; found {opset}")
        if int4 and opset < INT4_FROM:
            raise ConfigError(f"int4 needs opset {INT4_FROM} or later; found {opset}")
        self.onnx = required("onnx")
        self.name, self.opset, self.as_codes, self.int4 = name, opset, as_codes, int4
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._constants: dict[tuple[Any, ...], Any] = {}
        self._used: set[str] = set()
        self._scopes: list[str] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Context in which the names of all added nodes and constants begin with ``name/``."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def _unused(self, name: str) -> str:
        path = "/".join([*self._scopes, name])
        number, free = 0, path
        while free in self._used:
            number += 1
            free = f"{path}_{number}"
        self._used.add(free)
        return free

    def constant(
        self, array: np.ndarray[Any, Any] | np.generic, name: str = "constant", type: int | None = None
    ) -> str:
        """The name of a constant.

        Args:
            array: Its values.
            name: Name of the constant, unless an equal one exists already.
            type: ONNX's number of an element type that NumPy does not have, such as INT4; by default the array's type.
        """
        array = np.asarray(array)
        key = (array.shape, array.dtype.str, type, array.tobytes())
        if key not in self._constants:
            name = self._unused(name)
            if type is None:
                self._constants[key] = self.onnx.numpy_helper.from_array(array, name)
            else:
                self._constants[key] = self.onnx.helper.make_tensor(name, type, array.shape, array.ravel().tolist())
        return str(self._constants[key].name)

    def op(self, kind: str, *inputs: Value | np.generic, name: str | None = None, **attributes: Any) -> str:
        """The name of the only output of a new node."""
        (out,) = self.ops(kind, 1, *inputs, name=name, **attributes)
        return out

    def ops(
        self, kind: str, count: int, *inputs: Value | np.generic, name: str | None = None, **attributes: Any
    ) -> list[str]:
        """The names of the ``count`` outputs of a new node."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        own = self._unused(name or kind)
        outs = [own] if count == 1 else [f"{own}:{i}" for i in range(count)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, outs, name=own, **attributes))
        return outs

    def input(self, name: str, dtype: Any, shape: Sequence[int | str]) -> str:
        """The name of a new input; a size given as a name is free."""
        self.inputs.append(self._described(name, dtype, shape))
        self._used.add(name)
        return name

    def output(self, name: str, value: str, dtype: Any, shape: Sequence[int | str]) -> None:
        """Make ``value`` an output with this ``name``."""
        self.nodes.append(self.onnx.helper.make_node("Identity", [value], [name], name=f"output/{name}"))
        self.outputs.append(self._described(name, dtype, shape))

    def _described(self, name: str, dtype: Any, shape: Sequence[int | str]) -> Any:
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, list(shape))

    def model(self, metadata: Mapping[str, str]) -> Any:
        """The graph as an ``onnx.ModelProto``, checked by onnx.

        Args:
            metadata: Entries for the metadata of the file.
        """
        helper = self.onnx.helper
        constants = list(self._constants.values())
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, constants)
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="geo3d")
        helper.set_model_props(model, dict(metadata))
        self.onnx.checker.check_model(model, full_check=True)
        return model
