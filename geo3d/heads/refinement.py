"""Joints of a hand, refined step by step with shared weights, for as many steps as a hand needs."""

from collections.abc import Callable
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geo3d.checks import Range, Share, Size, checked
from geo3d.cloud import Features, Layout, Level
from geo3d.heads.cloud import Width
from geo3d.heads.joints import Estimate, JointRegressor, Number, anchors_of, as_estimate
from geo3d.nn.linear import linear
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.search.knn import knn_query

Step = Callable[[Estimate, Tensor, Tensor, Level], tuple[Estimate, Tensor]]
"""One step. It takes the estimate, the states of the joints (B J, channels), the features that joints look at
(M, channels) and their points. It gives the next estimate and the next states."""


class JointRefiner(nn.Module):
    """Estimates of all joints, each step better than the one before (after arXiv 2111.06500 and HandR2N2, ICCV 2023).

    The first estimate comes from the cloud features. Then the same step is repeated. In a step each joint takes the
    maximum over the features of the ``k`` points nearest to it and the sum of all joints' states, weighted by a learned
    (J, J) matrix. From both, a gated recurrent unit updates its state (``channels``). The state gives how far the joint
    moves; each joint has its own weights for that. With points i at p_i and the joint at q, the maximum is
    ``relu(max_i (A x_i + B p_i) - B q)``: the products with all points are computed once, before the first step.

    Every estimate has a logit of whether a further step would make it better. In evaluation a cloud stops, and keeps
    its estimate, as soon as the probability of that is below ``exit_below``. The loop ends when all clouds have
    stopped. ``steps`` and ``exit_below`` may be changed at any time.

    Args:
        in_channels: Channels of the encoder's cloud features.
        anchor_channels: Channels of the features of the encoder's first level.
        num_joints: J, the number of joints.
        channels: Channels of a joint's state.
        k: Points that a joint looks at. With many the maximum no longer tells what is beside the joint: behind one
            encoder with 128 points, 32 lowered the error from 18.3 to 17.6 mm, 8 to 15.6 and 2 to 14.8.
        steps: Steps after the first estimate.
        exit_below: Probability below which no further step is taken; 0 takes all.
        hidden: Channels of the hidden layer of the first estimate.
    """

    @checked
    def __init__(
        self,
        in_channels: Width,
        anchor_channels: Annotated[int, Range(1, 1_000_000)],
        num_joints: Number = 21,
        channels: Size = 128,
        k: Annotated[int, Range(1, 256)] = 2,
        steps: Annotated[int, Range(0, 100)] = 3,
        exit_below: Share = 0.0,
        hidden: Size = 256,
    ) -> None:
        super().__init__()
        self.in_channels, self.anchor_channels, self.num_joints = in_channels, anchor_channels, num_joints
        self.channels, self.k, self.steps, self.exit_below, self.hidden = channels, k, steps, exit_below, hidden
        self.first = JointRegressor(in_channels, num_joints, (hidden,))
        self.state = linear(in_channels, channels, bias=True)
        self.names = nn.Parameter(torch.randn(num_joints, channels) * 0.1)
        self.of_point = linear(anchor_channels, channels, bias=True)
        self.of_place = linear(3, channels, bias=False)
        self.others = nn.Parameter(torch.randn(num_joints, num_joints) / num_joints)
        self.update = nn.GRUCell(2 * channels, channels)
        self.move = nn.Parameter(torch.zeros(num_joints, channels, 4))
        self.shift = nn.Parameter(torch.zeros(num_joints, 4))
        self.gate = linear(2 * channels, 1, bias=True)

    def forward(self, features: Features) -> list[Estimate]:
        """The estimates after 0, 1, ... steps; in evaluation the last one is where each cloud stopped."""
        return self.refined(features, self._step)

    def refined(self, features: Features, step: Step) -> list[Estimate]:
        """The same, with each step computed by ``step``, such as a compiled one.

        Args:
            features: Of the encoder.
            step: Computes one step, see :data:`Step`.
        """
        points = anchors_of(features)
        seen = self.of_point(points.x) + self.of_place(points.pos)
        state = (torch.tanh(self.state(features.cloud))[:, None] + self.names).flatten(0, 1)
        estimate = self._gated(self.first(features)[0], state)
        estimates = [estimate]
        stops = not self.training and self.exit_below > 0
        for _ in range(self.steps):
            going = self._going(estimate) if stops else None  # a stopped cloud keeps its estimate, and so its logit
            if going is not None and not bool(going.any()):
                break
            estimate, state = step(estimate, state, seen, points)
            estimates.append(estimate if going is None else _kept(estimates[-1], estimate, going))
            estimate = estimates[-1]
        return estimates

    def _step(self, before: Estimate, state: Tensor, seen: Tensor, points: Level) -> tuple[Estimate, Tensor]:
        clouds, joints = len(before.joints), self.num_joints
        place = before.joints.detach().flatten(0, 1)
        ends = torch.arange(clouds + 1, device=place.device) * joints
        neighbors = knn_query(points.pos, points.layout, place, Layout(ends, joints), self.k)
        local = F.relu(gather_max(seen, neighbors) - self.of_place(place))
        other = (self.others @ state.view(clouds, joints, -1)).flatten(0, 1)
        state = self.update(torch.cat([local, other], 1), state)
        moved = torch.einsum("bjc,jcd->bjd", state.view(clouds, joints, -1), self.move) + self.shift
        old = torch.cat([before.joints, before.log_std[..., None]], 2).detach()
        return self._gated(as_estimate(old + moved), state), state

    def _gated(self, estimate: Estimate, state: Tensor) -> Estimate:
        """The estimate with the logit of going on, which changes nothing else in training."""
        least, most = state.detach().view(-1, self.num_joints, self.channels).aminmax(dim=1)
        return estimate._replace(go_on=self.gate(torch.cat([least, most], 1))[:, 0])

    def _going(self, estimate: Estimate) -> Tensor:
        """(B,) bool, the clouds for which a further step is worth it."""
        assert estimate.go_on is not None
        return estimate.go_on.sigmoid() >= self.exit_below


def _kept(old: Estimate, new: Estimate, going: Tensor) -> Estimate:
    """The new estimate of the clouds that go on, the old one of the others."""
    assert old.go_on is not None and new.go_on is not None
    return Estimate(
        torch.where(going[:, None, None], new.joints, old.joints),
        torch.where(going[:, None], new.log_std, old.log_std),
        torch.where(going, new.go_on, old.go_on),
    )
