"""An encoder prepared for fast calls: all work that does not depend on the clouds is done once, at load.

M points, B clouds.
"""

from collections.abc import Iterator
from copy import deepcopy
from statistics import median
from threading import Lock
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from geo3d.cloud import Features, Layout, Level, common_size
from geo3d.deploy.program.abstraction import AbstractionPlan, compiles
from geo3d.deploy.program.autotune import KernelChoice, fastest, given
from geo3d.deploy.program.kept import Kept
from geo3d.deploy.program.lower import Lowered, lower, reference, rounded
from geo3d.deploy.program.plan import STAGES, Plan, Store
from geo3d.encoders.dgcnn import CACHED
from geo3d.encoders.inputs import input_batch, point_inputs
from geo3d.encoders.pointnet2 import PointNet2
from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.checks import check_device, check_form_of_offsets, check_offsets


class Program:
    """``program(data) -> Features``: an encoder in evaluation, computed with as little work per call as possible.

    A chain of edge convolutions, such as a :class:`~geo3d.encoders.dgcnn.DGCNN`, is compiled, whether it is structured,
    pruned, quantised or none of these. Norms and signs are folded and weights factored, rounded and packed once; a call
    then runs compiled functions only. A layer that rounds its weight and inputs can be computed on codes (int8) or on
    floats, and a structured layer with or without its sums over windows; each runs in the form that is the fastest
    here. A :class:`~geo3d.encoders.pointnet2.PointNet2` in single precision, pruned or not, is compiled for batches of
    one size, in which each cloud has as many points as the first level has centres, or more. Other encoders and other
    clouds go through the encoder as it is, without gradients. So do clouds that are not on the CPU, and all clouds
    without the compiled kernels; with ``precision="int8"`` a chain is then computed on codes by torch.

    The encoder is copied, so later changes to it have no effect on the program. Several threads may call a program;
    they wait for each other.

    Args:
        encoder: Any encoder.
        threads: Threads of the compiled functions; by default torch's number when the program is called.
        autotune: Measure at load which form of each layer is the fastest. If false, layers that can be are computed on
            codes, and structured layers by their sums over windows.
        precision: ``"auto"``: as ``autotune`` says; ``"int8"`` or ``"float"``: this form for every layer that has it.
        num_points: Points of the cloud that is used for measuring.

    Attributes:
        encoder: The copy.
        lowered: The codes, scales and folded weights of a chain; None for other encoders.
        choices: Form and measured times of ``layers.0``, ..., ``embed`` of a compiled chain; else empty.

    Raises:
        ConfigError: If ``precision`` is none of the three, ``threads`` is below 1, or ``precision`` is ``"int8"`` for
            an encoder that is not a quantised chain.

    Example:
        >>> from geo3d.encoders import DGCNN
        >>> program = Program(DGCNN(k=2, channels=(8, 16), embedding=32))
        >>> features = program(Data(pos=torch.eye(3)))
        >>> features.point.shape, features.cloud.shape
        (torch.Size([3, 24]), torch.Size([1, 64]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        threads: int | None = None,
        autotune: bool = True,
        precision: Literal["auto", "float", "int8"] = "auto",
        num_points: int = 1024,
    ) -> None:
        if precision not in ("auto", "float", "int8") or (threads is not None and threads < 1):
            raise ConfigError(
                f"Program takes precision auto, float or int8, and 1 or more threads; found {precision!r} and {threads}"
            )
        self.encoder = deepcopy(encoder).eval().requires_grad_(False)
        self.threads, self.precision = threads, precision
        self.lowered = self._lowered()
        if precision == "int8" and not (self.lowered is not None and rounded(self.lowered)):
            raise ConfigError(
                "precision='int8' needs a quantised chain of edge convolutions (a DGCNN) on the CPU; quantise it with "
                "geo3d.compress.quantize"
            )
        self._abstracts = compiles(self.encoder)
        self._plans: Kept[tuple[Any, Tensor]] = Kept()
        self._store: Store = {}
        self._lock = Lock()
        self.choices: dict[str, KernelChoice] = {}
        if self.lowered is not None and native.name() is not None:
            if autotune and precision == "auto":
                self.choices = fastest(self.lowered, self._count(), num_points)
            else:
                self.choices = given(self.lowered, "float" if precision == "float" else "int8")

    @property
    def native(self) -> bool:
        """Whether calls consist of compiled functions (for clouds on the CPU, see above)."""
        return (bool(self.choices) or self._abstracts) and native.name() is not None

    def __call__(self, data: Data) -> Features:
        """Point features (M, point_channels) and cloud features (B, cloud_channels) of any PyG ``Data``; no gradients.

        Raises:
            CloudError: If the clouds do not fit the encoder, or hold NaN or infinite values.
        """
        with torch.no_grad():
            _check(data)
            if not self.native or data.pos.device.type != "cpu":
                return self._plainly(data)
            return self._run(data, None)

    def _lowered(self) -> Lowered | None:
        if any(parameter.device.type != "cpu" for parameter in self.encoder.parameters()):
            return None
        try:
            return lower(self.encoder)
        except ConfigError:
            if self.precision == "int8":
                raise
            return None

    def _count(self) -> int:
        return torch.get_num_threads() if self.threads is None else self.threads

    def _plainly(self, data: Data) -> Features:
        if self.lowered is not None and self.precision == "int8":
            return reference(self.lowered, data)
        return self.encoder(data)

    def _run(self, data: Data, times: dict[str, float] | None) -> Features:
        return self._chain(data, times) if self.lowered is not None else self._abstraction(data, times)

    def _abstraction(self, data: Data, times: dict[str, float] | None) -> Features:
        batch, encoder = input_batch(data), self.encoder
        assert isinstance(encoder, PointNet2)
        size, pos = common_size(batch), batch.pos.detach()
        fits = size is not None and size >= encoder.num_samples[0] and size * (len(batch.ptr) - 1) == len(pos)
        if not fits or pos.dtype != torch.float32:
            return self._plainly(batch)
        pos = pos.contiguous()
        x = point_inputs(batch, encoder.in_channels, encoder.inputs).detach()
        with self._lock:
            plan, _ = self._plan(len(pos), len(batch.ptr) - 1)
            return plan.run(x, pos, batch.ptr.contiguous(), times)

    def _chain(self, data: Data, times: dict[str, float] | None) -> Features:
        lowered = self.lowered
        assert lowered is not None
        if data.get("ptr") is None and data.get("batch") is not None:
            data = input_batch(data)
        x = point_inputs(data, lowered.in_channels, lowered.inputs).detach().to(torch.float32).contiguous()
        pos = x if lowered.in_channels == 3 else data.pos.detach().to(torch.float32).contiguous()
        ptr = data.get("ptr")
        with self._lock:
            if len(x) <= CACHED or ptr is None or len(ptr) < 3:
                return self._piece(x, pos, ptr, times)
            pieces = [self._piece(*some, times) for some in _pieces(x, pos, ptr)]
        point, cloud = torch.cat([piece.point for piece in pieces]), torch.cat([piece.cloud for piece in pieces])
        return Features(point, cloud, (Level(pos, Layout(ptr, data.get("num_points")), x),))

    def _piece(self, x: Tensor, pos: Tensor, ptr: Tensor | None, times: dict[str, float] | None) -> Features:
        plan, single = self._plan(len(x), 1 if ptr is None else len(ptr) - 1)
        point, cloud = x.new_empty(plan.rows, plan.columns), x.new_empty(plan.clouds, plan.pooled)
        tensors = x, pos, single if ptr is None else ptr.contiguous(), point, cloud
        if times is None:
            plan.run(*tensors)
        else:
            for step, seconds in zip(plan.steps, plan.timed(perf_counter, *tensors), strict=True):
                times[step.stage] += 1e3 * seconds
        if plan.columns != plan.channels:
            point = point[:, : plan.channels].contiguous()
        return Features(point, cloud, (Level(pos, Layout(tensors[2], None if ptr is not None else len(x)), x),))

    def _plan(self, rows: int, clouds: int) -> tuple[Any, Tensor]:
        """The plan for batches of this size, and the offsets of a single cloud."""
        size = rows, clouds, self._count()
        return self._plans.get(
            (*size, native.name()), lambda: (self._made(*size), torch.tensor([0, rows], dtype=torch.int64))
        )

    def _made(self, rows: int, clouds: int, threads: int) -> Plan | AbstractionPlan:
        if self.lowered is None:
            assert isinstance(self.encoder, PointNet2)
            return AbstractionPlan(self.encoder, rows // clouds, clouds, threads)
        chosen = {name: choice.form for name, choice in self.choices.items()}
        return Plan(self.lowered, chosen, rows, clouds, threads, self._store)


def _check(data: Data) -> None:
    """Check positions and offsets, which kernels and other encoders would check differently.

    Raises:
        CloudError: If they do not fit.
    """
    pos, ptr = data.pos, data.get("ptr")
    if pos.dim() != 2 or pos.shape[1] != 3 or not pos.is_floating_point() or not len(pos):
        raise CloudError(f"pos must be (M, 3) floats with at least one point; found {pos.dtype} {tuple(pos.shape)}")
    if ptr is not None:
        if ptr.dtype != torch.int64:
            raise CloudError(f"ptr must be int64 offsets (B + 1,); found {ptr.dtype} of shape {tuple(ptr.shape)}")
        check_form_of_offsets("ptr", ptr)
        check_device("pos and ptr", pos, ptr)
        check_offsets("ptr", ptr, len(pos))


def _pieces(x: Tensor, pos: Tensor, ptr: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Runs of whole clouds with at most ``CACHED`` points (or one larger cloud), whose data fit into the cache."""
    ends, first = ptr.tolist(), 0
    for last in range(1, len(ends)):
        if last + 1 == len(ends) or ends[last + 1] - ends[first] > CACHED:
            some = slice(ends[first], ends[last])
            yield x[some], pos[some], ptr[first : last + 1] - ends[first]
            first = last


def stages(program: Program, data: Data, repeats: int = 20) -> dict[str, float]:
    """Milliseconds of a call by stage: ``knn``, ``products``, ``gather``, ``pooling`` and ``other``.

    ``products`` includes rounding and sums over windows; ``pooling`` includes the last product. For a program without
    compiled calls all the time is in ``other``.

    Args:
        program: The program to measure.
        data: Clouds.
        repeats: Number of calls, over which the median of each stage is taken.
    """
    calls: list[dict[str, float]] = []
    with torch.no_grad():
        program(data)
        for _ in range(repeats):
            times = dict.fromkeys(STAGES, 0.0)
            start = perf_counter()
            if program.native and data.pos.device.type == "cpu":
                program._run(data, times)
            else:
                program(data)
            total = 1e3 * (perf_counter() - start)
            times["other"] = total - sum(ms for stage, ms in times.items() if stage != "other")
            calls.append(times)
    return {stage: median(times[stage] for times in calls) for stage in STAGES}
