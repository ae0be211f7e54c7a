"""Checks of invariance and of group laws, for tests of your own encoders and invariances."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch_geometric.data import Batch

from geo3d import seeds
from geo3d.cloud import Features, make_batch
from geo3d.invariance import Group, Invariance, Permutation

GROUP_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def tiny_batch(
    num_clouds: int = 3,
    num_points: int | Sequence[int] = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Batch:
    """Random ellipsoids with ``normal``, ``rgb``, ``point_y`` (the half, 0 or 1) and ``y`` (the cloud's number).

    Args:
        num_clouds: Number of clouds, if they all have the same size.
        num_points: Their size; or a list of sizes, one per cloud, and ``num_clouds`` is ignored.
        seed: The same seed gives the same clouds.
        dtype: Type of the coordinates, normals and colours.

    Example:
        >>> tiny_batch(num_points=[2, 5]).ptr.tolist()
        [0, 2, 7]
    """
    sizes = [num_points] * num_clouds if isinstance(num_points, int) else list(num_points)
    generator = seeds.generator(seed, "tiny_batch")
    direction = normalize(torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64), dim=1)
    axes = 0.5 + torch.rand(len(sizes), 3, generator=generator, dtype=torch.float64)
    axes = axes.repeat_interleave(torch.tensor(sizes), 0)
    return make_batch(
        (axes * direction).to(dtype),
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        normal=normalize(direction / axes, dim=1).to(dtype),
        rgb=torch.rand(sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype),
        point_y=(direction[:, 2] > 0).long(),
        y=torch.arange(len(sizes)),
    )


def assert_invariant(
    function: Callable[[Batch], Tensor | Features],
    invariance: Invariance,
    batch: Batch,
    generator: torch.Generator,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> None:
    """Check that ``function`` returns the same for the batch and for the batch changed by a sampled element.

    Args:
        function: Returns one row per cloud, or an encoder's ``Features``, of which the cloud part is compared.
        invariance: The invariance to check.
        batch: Some clouds.
        generator: Draws the element.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Raises:
        AssertionError: If it does not; the message names the invariance and the largest difference.
    """
    with torch.no_grad():
        before, after = (_cloud_rows(function(clouds)) for clouds in (batch, invariance(batch, generator)))
    _assert_close(after, before, rtol, atol, f"not invariant to {invariance!r}")


def assert_permutation_invariant(
    encoder: Callable[[Batch], Features], batch: Batch, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    """Check that permuting the points keeps the cloud features and permutes the point features in the same way.

    A module is called in evaluation mode, and its mode is restored afterwards.

    Raises:
        AssertionError: If not; the message names which of the two, and the largest difference.
    """
    group = Permutation()
    element, shuffled = group.draw(batch, seeds.generator(0, "assert_permutation_invariant"))
    training = isinstance(encoder, nn.Module) and encoder.training
    if isinstance(encoder, nn.Module):
        encoder.eval()
    try:
        with torch.no_grad():
            before, after = encoder(batch), encoder(shuffled)
    finally:
        if isinstance(encoder, nn.Module):
            encoder.train(training)
    _assert_close(after.cloud, before.cloud, rtol, atol, "cloud features depend on the order of the points")
    _assert_close(after.point, before.point[element], rtol, atol, "point features do not move with their points")


def assert_group(group: Group, batch: Batch, generator: torch.Generator) -> None:
    """Check that sampled elements and their action obey the group laws (to 1e-10 in float64, 1e-4 in float32).

    The laws are identity and inverse on both sides, associativity, and that compose(a, b) acts as b and then a. They
    are checked on all attributes of the batch.

    Raises:
        AssertionError: If not; the message names the law and the attribute.
    """
    a, b, c = (group.sample(batch, generator) for _ in range(3))
    identity, compose, act = group.identity(batch), group.compose, group.act
    inverse = group.inverse(a)
    laws: list[tuple[str, Batch, Batch]] = [
        ("the identity changes the batch", act(identity, batch), batch),
        ("a after the identity is not a", act(compose(a, identity), batch), act(a, batch)),
        ("the identity after a is not a", act(compose(identity, a), batch), act(a, batch)),
        ("the inverse does not undo a", act(inverse, act(a, batch)), batch),
        ("compose(inverse, a) is not the identity", act(compose(inverse, a), batch), batch),
        ("compose(a, inverse) is not the identity", act(compose(a, inverse), batch), batch),
        ("compose(a, b) is not b and then a", act(compose(a, b), batch), act(a, act(b, batch))),
        ("not associative", act(compose(compose(a, b), c), batch), act(compose(a, compose(b, c)), batch)),
    ]
    tolerance = GROUP_TOLERANCE[batch.pos.dtype]
    for law, left, right in laws:
        assert set(left.keys()) == set(right.keys()), f"{group!r}: {law}: attributes differ"
        for key in sorted(left.keys()):
            _assert_close(left[key], right[key], tolerance, tolerance, f"{group!r}: {law} ({key})")


def _cloud_rows(out: Tensor | Features) -> Tensor:
    return out if isinstance(out, Tensor) else out.cloud


def _assert_close(found: Any, expected: Any, rtol: float, atol: float, message: str) -> None:
    if not isinstance(expected, Tensor):
        assert found == expected, f"{message}: {found} instead of {expected}"
        return
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol, msg=lambda detail: f"{message}\n{detail}")
