"""Joints of a moving hand: those of one frame, combined with what the frames before say."""

import torch
from torch import Tensor

from geo3d.heads.prediction import Prediction


class JointFilter:
    """A Kalman filter for each joint of a hand (Kalman 1960), with the uncertainty that the network predicts.

    A joint is believed to move from frame to frame by a normal random amount, beside the motion of the whole hand,
    which the mean of its points tells. So a fast hand is followed without delay; fast fingers are a little behind.

    Args:
        moves: Standard deviation of that amount along each axis, in the units of the joints.

    Example:
        >>> still = JointFilter(moves=0.0)
        >>> frames = [Prediction(torch.full((21, 3), x), torch.ones(21), torch.tensor(1)) for x in (0.0, 3.0)]
        >>> [float(still(frame, torch.zeros(3)).joints[0, 0]) for frame in frames]
        [0.0, 1.5]
    """

    def __init__(self, moves: float) -> None:
        self.moves = moves
        self._place: Tensor | None = None
        self._variance: Tensor | None = None

    def reset(self) -> None:
        """Forget the frames so far."""
        self._place = self._variance = None

    def __call__(self, made: Prediction, center: Tensor) -> Prediction:
        """The joints of the next frame, filtered; uncertainty and steps are those of the network.

        Errors of neighbouring frames are alike, so the filter's own uncertainty would be too small.

        Args:
            made: What the network says of this frame: joints (J, 3) and their uncertainty (J,).
            center: (3,) the mean of the hand's points.
        """
        place, variance = made.joints - center.to(made.joints), made.std.square()
        if self._place is not None and self._variance is not None:
            expected = self._variance + self.moves**2
            gain = expected / (expected + variance)
            place = torch.lerp(self._place, place, gain[:, None])
            variance = (1 - gain) * expected
        self._place, self._variance = place, variance
        return made._replace(joints=place + center.to(place))
