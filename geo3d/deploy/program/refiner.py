"""A head that refines joints, with each step as one compiled call."""

from collections.abc import Callable
from copy import deepcopy
from threading import Lock

import torch
from torch import Tensor

from geo3d.cloud import Features, Level
from geo3d.deploy.program.kept import Kept
from geo3d.heads.joints import Estimate
from geo3d.heads.refinement import JointRefiner
from geo3d.ops import native
from geo3d.ops.dense.prepacked import pack
from geo3d.ops.native.pointers import Place

FULL = 16
"""The compiled step takes states of a multiple of this many channels."""


class RefinerProgram:
    """``program(features) -> [Estimate, ...]``: a JointRefiner in evaluation, computed with little work per call.

    The head is copied, so later changes to it have no effect on the program. Its copy is called as it is where the
    compiled kernels cannot run: without them, on a GPU, in double precision, for states whose channels are no multiple
    of 16. Several threads may call a program; they wait for each other.

    Args:
        head: The head.

    Attributes:
        head: The copy; its ``steps`` and ``exit_below`` may be changed.
    """

    def __init__(self, head: JointRefiner) -> None:
        self.head = deepcopy(head).eval().requires_grad_(False)
        self._lock = Lock()
        self._plans: Kept[_Plan] = Kept()
        self._weights = _Weights(self.head) if head.channels % FULL == 0 else None

    def __call__(self, features: Features) -> list[Estimate]:
        """The estimates after 0, 1, ... steps, as the head gives them; no gradients."""
        with torch.no_grad():
            if self._weights is None or not native.usable(features.cloud, self.head.move):
                return self.head(features)
            with self._lock:
                return self.head.refined(features, self._step)

    def _step(self, before: Estimate, state: Tensor, seen: Tensor, points: Level) -> tuple[Estimate, Tensor]:
        weights, size = self._weights, (len(before.joints), len(points.pos), torch.get_num_threads())
        assert weights is not None
        plan = self._plans.get((*size, native.name()), lambda: _Plan(self.head, weights, *size))
        return plan(before, state, seen, points)


class _Weights:
    """The weights of a step as the compiled function takes them."""

    def __init__(self, head: JointRefiner) -> None:
        cell, gate = head.update, head.gate
        self.update, self.keep = pack(cell.weight_ih), pack(cell.weight_hh)
        self.biases = [_filled(bias.detach()) for bias in (cell.bias_ih, cell.bias_hh)]
        self.of_place = head.of_place.weight.detach().t().contiguous()
        self.gate = torch.cat([gate.weight.detach()[0], gate.bias.detach()])
        self.others, self.move, self.shift = (
            each.detach().contiguous() for each in (head.others, head.move, head.shift)
        )

    def arrays(self) -> tuple[Tensor, ...]:
        """In the order of the function; packed for the build in use."""
        return (
            self.of_place, self.others, self.update.data(), self.biases[0], self.keep.data(), self.biases[1],
            self.move, self.shift, self.gate,
        )  # fmt: skip


class _Plan:
    """The call for B clouds with M points in all and J joints each."""

    def __init__(self, head: JointRefiner, weights: _Weights, clouds: int, points: int, threads: int) -> None:
        joints, channels = head.num_joints, head.channels
        self._before, self._after = (Place(torch.float32, clouds, joints, 4) for _ in range(2))
        self._state, self._next = (Place(torch.float32, clouds * joints, channels) for _ in range(2))
        self._logit = Place(torch.float32, clouds)
        self._pos, self._ptr = Place(torch.float32, points, 3), Place(torch.int64, clouds + 1)
        self._seen = Place(torch.float32, points, channels)
        self._places = self._before, self._state, self._seen, self._pos, self._ptr
        self._call: Callable[[], None] = native.bound(
            "refine", threads, clouds, joints, channels, points, head.k, self._pos, self._ptr, self._seen,
            *weights.arrays(), self._before, self._state, self._after, self._next, self._logit,
            what="points, joints, features or weights of a refinement",
        )  # fmt: skip

    def __call__(self, before: Estimate, state: Tensor, seen: Tensor, points: Level) -> tuple[Estimate, Tensor]:
        old = torch.cat([before.joints, before.log_std[..., None]], 2)
        ptr = points.layout.ptr.long().contiguous()
        given = old, state, seen, points.pos.contiguous(), ptr  # these must live until after the call
        for place, tensor in zip(self._places, given, strict=True):
            place.put(tensor)
        rows, state, logit = (each.fresh() for each in (self._after, self._next, self._logit))
        self._call()
        return Estimate(rows[..., :3], rows[..., 3], logit), state


def _filled(bias: Tensor) -> Tensor:
    """The bias with zeros up to a multiple of 32, as packed weights are."""
    return torch.cat([bias, bias.new_zeros(-len(bias) % 32)])
