"""The base class of objectives: what they declare, how their input is checked, and their precision."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from geo3d.checks import Range
from geo3d.distributed import world_size
from geo3d.errors import ConfigError

Terms = dict[str, Tensor]
Temperature = Annotated[float, Range(1e-4, 1000)]
"""Below 1e-4, exp(1 / temperature) is meaningless in float32."""
Weight = Annotated[float, Range(0, 1e6, above=True)]
Eps = Annotated[float, Range(0, 1, above=True)]


Pairs = Annotated[int, Range(2, 65536)]
Radius = Annotated[float, Range(0, 1e6)]
Cell = Annotated[float, Range(0, 1e6, above=True)]
Coarse = Annotated[int, Range(0, 8)]


class Places(NamedTuple):
    """Where the points of the pairs are."""

    pos: Tensor
    """(P, 3) coordinates of the first view's points before the invariances act."""
    cloud: Tensor
    """(P,) the cloud of the batch that each pair belongs to."""


class Hidden(NamedTuple):
    """Which points of the pairs the views hide."""

    masked: list[Tensor]
    """For each view (P,), 1 where the encoder was not told about the point, else 0."""
    rgb: list[Tensor] | None
    """For each view (P, 3) the colours that the points had; None for clouds without colours."""


class Motions(NamedTuple):
    """How the views have moved the clouds."""

    motions: list[Tensor]
    """For each view (B, 4, 4) matrices of ``p -> linear p + shift``, from the normalised clouds."""
    joints: Tensor | None
    """(B, J, 3) joints in the normalised clouds; None for data without joints."""


class Objective(nn.Module):
    """A loss on embeddings of views of the same clouds; row i of every view belongs to the same cloud, or point.

    A subclass implements ``loss`` and declares in class attributes what the task must provide. A ``loss`` that compares
    rows gathers those of the other processes, too. With gradients averaged over processes, training is then the same as
    in one process with the joined batch.
    """

    on: ClassVar[Literal["cloud", "point"]] = "cloud"
    """What a row is. ``"cloud"``: one of B clouds. ``"point"``: one of ``pairs`` points that both views show, drawn at
    random; ``pairs`` is an attribute of the objective and the same in every process."""
    radius: float = 0.0
    """For points: 0 pairs each point with itself in the other view. Otherwise it is paired with the nearest point of
    the other view, if that is at most this far away before the invariances act; two frames of a scene need that."""
    level: int = 0
    """For points: 0 compares all of them. Above, only the centres of this level of the encoder are compared, each with
    the nearest centre of the other view; that needs a ``radius``."""
    needs: ClassVar[Literal["places", "hidden", "clouds", "motions"] | None] = None
    """What else the loss needs; then ``loss_given`` is called, not ``loss``. ``"places"``: where the points of pairs
    are. ``"hidden"``: what the views hide of each other, by the attributes ``cell``, ``rate`` and ``noise`` (see
    ``geo3d.invariance.masks``). ``"clouds"``: (B, points, 3) of the clouds that the views were made of; ``points`` is
    an attribute. ``"motions"``: how the views have moved the clouds."""
    teacher: ClassVar[bool] = False
    """Whether the loss needs ``targets``, the outputs of the momentum encoder and projector for each view."""
    predictor: ClassVar[bool] = False
    """Whether ``views`` are the outputs of a predictor behind the projector."""
    invariant_to: ClassVar[Literal["views"] | tuple[str, ...]] = "views"
    """What embeddings should be invariant to: all differences between views, or classes of ``geo3d.invariance``."""
    equivariant_to: ClassVar[tuple[str, ...]] = ()
    """What embeddings should be equivariant to: names of classes of ``geo3d.invariance``."""

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and its terms; ``targets`` is empty for an objective without a teacher."""
        raise ConfigError(f"{type(self).__name__} has no loss(views, targets); define one")

    def loss_given(self, views: list[Tensor], targets: list[Tensor], given: Any) -> tuple[Tensor, Terms]:
        """The loss and its terms, for an objective that ``needs`` something else."""
        raise ConfigError(f"{type(self).__name__} has no loss_given(views, targets, given); define one")

    def forward(
        self,
        views: Sequence[Tensor],
        targets: Sequence[Tensor] | None = None,
        given: "Places | Hidden | Motions | Tensor | None" = None,
    ) -> tuple[Tensor, Terms]:
        """The loss () and its detached terms for logging, computed in float32 or better.

        Args:
            views: Two or more (B, D) embeddings; for a point objective, B is the number of pairs.
            targets: The teacher's (B, D) embeddings, one for each view, if ``teacher`` is true; they get no gradient.
            given: What the objective ``needs``.

        Raises:
            ConfigError: If the shapes or numbers of views and targets do not fit, or there are fewer than two clouds.
        """
        name = type(self).__name__
        check(name, views)
        if self.teacher and targets is None:
            raise ConfigError(f"{name} needs targets, the teacher's embedding of each view; found None")
        if not self.teacher and targets is not None:
            raise ConfigError(f"{name} has no teacher; leave targets out")
        if targets is not None and [t.shape for t in targets] != [v.shape for v in views]:
            shapes = [tuple(t.shape) for t in targets]
            raise ConfigError(f"{name}: targets must have the shapes of the views, {found_in(views)}; found {shapes}")
        if (given is None) != (self.needs is None):
            raise ConfigError(f"{name} {f'needs {self.needs}' if self.needs else 'needs nothing else'}; give just that")
        # bfloat16 sums over a batch lose the small differences that the loss measures
        with torch.autocast(views[0].device.type, enabled=False):
            wide = [widen(v) for v in views], [widen(t.detach()) for t in targets or ()]
            result = self.loss(*wide) if given is None else self.loss_given(*wide, given)
        if not _is_loss(result):
            raise ConfigError(f"{name}.loss: expected to return (loss (), {{name: tensor}}); found {_types(result)}")
        loss, terms = result
        return loss, {key: term.detach() for key, term in terms.items()}


def _is_loss(result: Any) -> bool:
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping)):
        return False
    return all(isinstance(value, Tensor) for value in (result[0], *result[1].values()))


def _types(result: Any) -> str:
    if isinstance(result, tuple):
        return f"({', '.join(_types(part) for part in result)})"
    if isinstance(result, Mapping):
        return f"{{{', '.join(f'{key}: {_types(part)}' for key, part in result.items())}}}"
    return type(result).__name__


def check(name: str, views: Sequence[Tensor]) -> None:
    """Check that the views are two or more floating (B, D) tensors of one shape with at least two rows in all."""
    if isinstance(views, Tensor) or len(views) < 2:
        raise ConfigError(f"{name} takes a list of two or more views (B, D); found {found_in(views)}")
    shape = views[0].shape
    if any(v.dim() != 2 or v.shape != shape or not v.is_floating_point() for v in views):
        raise ConfigError(f"{name}: views must be floating-point (B, D) of one shape; found {found_in(views)}")
    if shape[0] * world_size() < 2:
        raise ConfigError(f"{name} needs a batch of at least 2 clouds; found {shape[0]}; raise the batch size")


def found_in(views: Sequence[Tensor]) -> str:
    """The shapes of the views, in words for an error message."""
    shapes = [tuple(v.shape) for v in views]
    return f"{len(shapes)} of {shapes[0]}" if len(shapes) > 2 and len(set(shapes)) == 1 else str(shapes)


def widen(x: Tensor) -> Tensor:
    """``x``, converted to float32 if it was float16 or bfloat16."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
