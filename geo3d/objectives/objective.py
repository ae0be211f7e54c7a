"""What all objectives share: their declarations, the checks of their input, and the precision they work in."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from geo3d.checks import Range
from geo3d.distributed import world_size
from geo3d.errors import ConfigError

Terms = dict[str, Tensor]
Temperature = Annotated[float, Range(1e-4, 1000)]
"""Below, exp(1 / temperature) means nothing in float32."""
Weight = Annotated[float, Range(0, 1e6, above=True)]
Eps = Annotated[float, Range(0, 1, above=True)]


class Objective(nn.Module):
    """A loss on embeddings of views of the same clouds; row i of every view belongs to the same cloud, or point.

    A subclass writes ``loss`` and declares, as class attributes, what the task has to own for it. It also gathers the
    rows of other processes: under gradients averaged over processes it behaves as one process with the joined batch.
    """

    on: ClassVar[Literal["cloud", "point"]] = "cloud"
    """What the rows are. ``"cloud"``: B clouds. ``"point"``: ``pairs`` points, an attribute of the objective, drawn
    among those that both views show; the same number in every process."""
    teacher: ClassVar[bool] = False
    """Whether ``targets`` are needed: what the momentum encoder and projector give for each view."""
    predictor: ClassVar[bool] = False
    """Whether ``views`` are what a predictor behind the projector gives."""
    invariant_to: ClassVar[Literal["views"] | tuple[str, ...]] = "views"
    """What embeddings shall forget: all that differs between views, or classes of ``geo3d.invariance`` by name."""
    equivariant_to: ClassVar[tuple[str, ...]] = ()
    """What embeddings shall follow: classes of ``geo3d.invariance`` by name."""

    def loss(self, views: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, Terms]:
        """The loss and its terms; ``targets`` is empty for an objective without a teacher."""
        raise NotImplementedError

    def forward(self, views: Sequence[Tensor], targets: Sequence[Tensor] | None = None) -> tuple[Tensor, Terms]:
        """The loss () and its detached terms for logging, computed in float32 or better.

        Args:
            views: Two or more (B, D) embeddings; of a point objective B is the number of pairs.
            targets: As many (B, D) embeddings of the teacher, if ``teacher`` is true; no gradient goes into them.

        Raises:
            ConfigError: If shapes or numbers do not fit, or fewer than two clouds are there to tell apart.
        """
        name = type(self).__name__
        check(name, views)
        if self.teacher and targets is None:
            raise ConfigError(f"{name} needs targets, the teacher's embedding of each view; found None")
        if not self.teacher and targets is not None:
            raise ConfigError(f"{name} has no teacher; leave targets out")
        if targets is not None and [t.shape for t in targets] != [v.shape for v in views]:
            found = [tuple(t.shape) for t in targets]
            raise ConfigError(f"{name}: targets must have the shapes of the views, {found_in(views)}; found {found}")
        # bfloat16 sums over a batch lose the small differences that the loss is about
        with torch.autocast(views[0].device.type, enabled=False):
            loss, terms = self.loss([widen(v) for v in views], [widen(t.detach()) for t in targets or ()])
        return loss, {key: term.detach() for key, term in terms.items()}


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
    """Shapes for an error message."""
    shapes = [tuple(v.shape) for v in views]
    return f"{len(shapes)} of {shapes[0]}" if len(shapes) > 2 and len(set(shapes)) == 1 else str(shapes)


def widen(x: Tensor) -> Tensor:
    """``x`` in float32, if it was narrower."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
