"""What is refused, and with which words, is the same for every build of the kernels and without any."""

import pytest
import torch
from support.operator_cases import Inputs

from geo3d.cloud import Layout, make_batch
from geo3d.deploy.program.program import Program
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import Geo3dError, NotFiniteError
from geo3d.ops import native
from geo3d.ops.dense import grouped, pooling, sliding
from geo3d.ops.dense import prepacked as packed
from geo3d.ops.edge import gather
from geo3d.ops.edge.conv import edge_conv, edge_conv_fixed
from geo3d.ops.edge.join import edge_join
from geo3d.ops.quant import fake_quantize as rounding
from geo3d.ops.quant import int8
from geo3d.ops.render.depth import depth_image
from geo3d.ops.search import farthest as sampling
from geo3d.ops.search import voxel
from geo3d.ops.search.ball import ball_query
from geo3d.ops.search.knn import knn, knn_query
from geo3d.ops.search.three_nearest import three_nearest

BUILDS = [*native.builds(), None]
GIVEN = Inputs((7, 20, 13))
ROWS, CLOUDS = GIVEN.rows, len(GIVEN.sizes)
WIDE, AB, EXACT = GIVEN.floats(ROWS, 8), GIVEN.floats(ROWS, 20), GIVEN.floats(ROWS, 10)
GAMMA, BETA = GIVEN.floats(10).abs(), GIVEN.floats(10)
WEIGHT, DOUBLE, HALVES = GIVEN.floats(10, 8), GIVEN.floats(10, 16), GIVEN.floats(10, 16)
PACKED = packed.pack(WEIGHT)
CODES = int8.pack(torch.ones(10, 8, dtype=torch.int8))
Q = torch.ones(ROWS, 8, dtype=torch.uint8)
TABLE_CODES = torch.ones(ROWS, 64, dtype=torch.uint8)
NETWORK = [GIVEN.floats(9, 11), GIVEN.floats(17, 9)]
NORMS = [GIVEN.floats(size).abs() for size in (9, 17) for _ in range(5)]
COUNT = torch.full((len(GIVEN.centers),), 3)
SIZES, FIRST_WEIGHTS = GIVEN.ptr.diff(), [GIVEN.floats(9, 8), NETWORK[1]]
FIRST, ORDER, STEP = torch.zeros(CLOUDS, dtype=torch.int64), torch.arange(8), torch.ones(1)
NEAR = torch.randint(0, ROWS, (len(GIVEN.centers), 4), generator=GIVEN.generator)


def network(pos=GIVEN.pos, features=WIDE, neighbors=NEAR, count=COUNT, centers=GIVEN.centers, weights=NETWORK):
    rows = grouped.Rows(features, pos, centers, neighbors, count)
    trained = [NORMS[5 * layer + each] for layer in range(2) for each in range(3)]
    return grouped.grouped_max(rows, weights, NORMS, 1e-5), grouped.grouped_max_train(rows, weights, trained, 1e-5)


def network_on_rows(x=WIDE, count=SIZES, weights=FIRST_WEIGHTS):
    return grouped.grouped_max(grouped.Rows(x, None, None, None, count), weights, NORMS, 1e-5)


def with_gradient(function):
    def called(x, *rest):
        out = function(x.clone().requires_grad_() if x.is_floating_point() else x, *rest)
        return out[0] if isinstance(out, tuple) else out

    return called


# Each operator with what it takes under these names; a fault replaces one of them.
OPERATORS = {
    "knn": lambda pos=GIVEN.pos, ptr=GIVEN.ptr: knn(pos, Layout(ptr), 3),
    "knn of features": lambda x=WIDE, ptr=GIVEN.ptr: knn(x, Layout(ptr), 3),
    "knn of one size": lambda x=WIDE, ptr=GIVEN.ptr: knn(x, Layout(ptr, 13), 3),
    "knn_query": lambda pos=GIVEN.pos, ptr=GIVEN.ptr, centers=GIVEN.centers, center_ptr=GIVEN.center_ptr: knn_query(
        pos, Layout(ptr), centers, Layout(center_ptr), 3
    ),
    "knn_query of features": lambda x=WIDE, ptr=GIVEN.ptr: knn_query(x, Layout(ptr), x, Layout(ptr), 3),
    "ball_query": lambda pos=GIVEN.pos, ptr=GIVEN.ptr, centers=GIVEN.centers, center_ptr=GIVEN.center_ptr: ball_query(
        pos, Layout(ptr), centers, Layout(center_ptr), 0.5, 3
    ),
    "three_nearest": lambda pos=GIVEN.pos, ptr=GIVEN.ptr, centers=GIVEN.centers, center_ptr=GIVEN.center_ptr: (
        three_nearest(pos, Layout(ptr), centers, Layout(center_ptr))
    ),
    "farthest_points": lambda pos=GIVEN.pos, ptr=GIVEN.ptr: sampling.farthest_points(pos, Layout(ptr), 4),
    "farthest_points from": lambda pos=GIVEN.pos, ptr=GIVEN.ptr, first=FIRST: sampling.farthest_points(
        pos, Layout(ptr), 4, first
    ),
    "farthest_points from the centroid": lambda pos=GIVEN.pos, ptr=GIVEN.ptr: sampling.farthest_points(
        pos, Layout(ptr), 4, "farthest"
    ),
    "voxel_groups": lambda pos=GIVEN.pos, ptr=GIVEN.ptr: voxel.voxel_groups(pos, Layout(ptr), 0.5),
    "depth_image": lambda pos=GIVEN.pos: depth_image(pos[:39].view(-1, 3, 3), 2, 2, (1.0, 1.0), (0.5, 0.5)),
    "gather_max": lambda x=WIDE, neighbors=GIVEN.neighbors: gather.gather_max(x, neighbors),
    "gather_max for training": lambda x=WIDE, neighbors=GIVEN.neighbors: with_gradient(gather.gather_max)(x, neighbors),
    "gather_sum": lambda x=WIDE, neighbors=GIVEN.neighbors: gather.gather_sum(x, neighbors),
    "sum_to_neighbors": lambda x=WIDE, neighbors=GIVEN.neighbors: gather.sum_to_neighbors(x, neighbors, ROWS),
    "edge_conv": lambda x=WIDE, weight=DOUBLE, neighbors=GIVEN.neighbors: edge_conv(x, weight, GAMMA, BETA, neighbors),
    "edge_conv for training": lambda x=WIDE, weight=DOUBLE, neighbors=GIVEN.neighbors: with_gradient(edge_conv)(
        x, weight, GAMMA, BETA, neighbors
    ),
    "edge_conv_fixed": lambda x=WIDE, weight=DOUBLE, neighbors=GIVEN.neighbors, shift=BETA: edge_conv_fixed(
        x, weight, GAMMA, shift, neighbors, 0.2
    ),
    "edge_join": lambda ab=AB, neighbors=GIVEN.neighbors, gamma=GAMMA: edge_join(ab, None, gamma, BETA, neighbors),
    "edge_join, rounded": lambda ab=AB, neighbors=GIVEN.neighbors, exact=EXACT: edge_join(
        ab, exact, GAMMA, BETA, neighbors
    ),
    "norm_pool": lambda x=WIDE, ptr=GIVEN.ptr, weight=WEIGHT: pooling.norm_pool(x, weight, GAMMA, BETA, ptr),
    "linear_pool": lambda x=WIDE, ptr=GIVEN.ptr, weight=WEIGHT: pooling.linear_pool(x, weight, GAMMA, BETA, ptr, 0.2),
    "max_and_mean": lambda x=WIDE, ptr=GIVEN.ptr: pooling.max_and_mean(x, Layout(ptr)),
    "packed linear": lambda x=WIDE: packed.linear(x, PACKED),
    "packed linear_pool": lambda x=WIDE, ptr=GIVEN.ptr: packed.linear_pool(x, PACKED, GAMMA, BETA, 0.2, ptr),
    "sliding_sum": lambda x=WIDE, order=ORDER: sliding.sliding_sum(x, 3, order),
    "quantize": lambda x=WIDE, step=STEP: rounding.quantize(x, step, None, -8, 7),
    "fake_quantize": lambda x=WIDE, step=STEP: rounding.fake_quantize(x, step, None, -8, 7)[:0],
    "int8.quantize_rows": lambda x=WIDE: int8.quantize_rows(x, torch.ones(1), torch.zeros(1), 255),
    "int8.edge_evaluate": lambda x=EXACT, neighbors=GIVEN.neighbors: int8.edge_evaluate(
        x, TABLE_CODES, neighbors, torch.ones(1), torch.zeros(1), GAMMA, BETA, 0.2
    ),
    "int8.linear_pool": lambda ptr=GIVEN.ptr: int8.linear_pool(Q, CODES, GAMMA, BETA, 0.2, ptr),
    "grouped_max": network,
    "grouped_max of rows": network_on_rows,
}


def changed(tensor, place, value):
    out = tensor.clone()
    out.view(-1)[place % out.numel()] = value
    return out


def faults(name, value):
    """What may be wrong with an argument of this name: (what, the argument)."""
    if name in ("ptr", "center_ptr"):
        ends = value.tolist()
        yield "from 1", changed(value, 0, 1)
        yield "below 0", changed(value, 0, -1)
        yield "too short an end", changed(value, -1, ends[-1] - 1)
        yield "too long an end", changed(value, -1, ends[-1] + 1)
        yield "an empty cloud", changed(value, 2, ends[1])
        yield "falling", changed(value, 1, ends[2] + 1)
        yield "far away", changed(value, 1, 2**40)
        yield "of one cloud less", value[:-1]
        yield "of nothing", value[:0]
        yield "one number", value[0]
        yield "a matrix", value[None]
        yield "floats", value.float()
        yield "booleans", value.bool()
        yield "elsewhere", value.to("meta")
    elif name in ("neighbors", "first", "count", "order"):
        for index in (-1, -(2**40), 2**40):
            yield f"{index}", changed(value, 0, index)
        if name == "neighbors":
            yield "one too large, at the end", changed(value, -1, ROWS)
        if name in ("first", "order", "count"):
            yield "just too large", changed(value, 1, 20 if name == "first" else 8)
            yield "zero or twice", changed(value, 1, 0)
        yield "one row less", value[:-1]
        yield "32 bits", value.int()
        yield "floats", value.float()
        yield "elsewhere", value.to("meta")
        yield "one dimension more", value[None]
    elif name == "weights":
        yield "one layer", list(value)[:1]
        yield "that do not follow each other", [value[0], value[1][:, :-1]]
    elif value.is_floating_point():
        yield "NaN", changed(value, 5, torch.nan)
        yield "infinite", changed(value, 7, torch.inf)
        yield "minus infinite, at the end", changed(value, -1, -torch.inf)
        yield "too large to be squared", changed(value, 3, 3e38)
        yield "one row less", value[:-1]
        yield "one row more", torch.cat([value, value[:1]])
        yield "half precision", value.bfloat16()
        yield "double precision", value.double()
        yield "whole numbers", value.long()
        yield "elsewhere", value.to("meta")
        if value.dim() == 2:
            yield "one column less", value[:, :-1].contiguous()
            yield "one row", value[0]


def arguments(operator):
    names = operator.__code__.co_varnames[: operator.__code__.co_argcount]
    return dict(zip(names, operator.__defaults__, strict=True))


CASES = [
    (operator, name, what, value)
    for operator, function in OPERATORS.items()
    for name, right in arguments(function).items()
    for what, value in faults(name, right)
]


def outcome(build, function, *given, **named):
    """Class and first line of the error, or "accepted"."""
    with native.using(build) if build else native.disabled():
        try:
            function(*given, **named)
        except Exception as error:
            return type(error), str(error).splitlines()[0]
        return "accepted"


FINE = {("neighbors", "one row less"), ("neighbors", "one too large, at the end")}
"""What some operators may be given: fewer rows than there are points, and anything behind a row's distinct entries."""


@pytest.mark.parametrize(("operator", "name", "what", "value"), CASES, ids=[", ".join(case[:3]) for case in CASES])
def test_operators(operator, name, what, value):
    found = {build: outcome(build, OPERATORS[operator], **{name: value}) for build in BUILDS}
    assert len(set(found.values())) == 1, found
    if name in ("ptr", "center_ptr", "neighbors", "order") and (name, what) not in FINE:
        assert found[None] != "accepted" and issubclass(found[None][0], Geo3dError), found


@pytest.mark.parametrize("operator", OPERATORS)
def test_what_is_right_is_accepted(operator):
    assert {outcome(build, OPERATORS[operator]) for build in BUILDS} == {"accepted"}


def clouds(**changes):
    batch = make_batch(GIVEN.pos, ptr=GIVEN.ptr)
    for name, value in changes.items():
        batch[name] = value
    return batch


ENCODERS = {
    "DGCNN": DGCNN(k=3, channels=(8, 8), embedding=16),
    "PointNet": PointNet(embedding=16, width=0.125),
    "PointNet2": PointNet2(num_samples=(4, 2), width=0.125),
}
CLOUDS_AT_FAULT = {
    f"{name} {what}": {name: value}
    for name, right in (("pos", GIVEN.pos), ("ptr", GIVEN.ptr))
    for what, value in faults(name, right)
    if what not in ("half precision", "double precision", "too large to be squared")
}


@pytest.mark.parametrize("changes", CLOUDS_AT_FAULT.values(), ids=list(CLOUDS_AT_FAULT))
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_and_programs(name, changes):
    encoder = ENCODERS[name].eval()
    if "ptr" in changes and changes["ptr"].dtype != torch.int64:
        pytest.skip("make_batch makes none such")

    @torch.no_grad()
    def evaluated():
        return encoder(clouds(**changes))

    found = {build: outcome(build, evaluated) for build in BUILDS}
    assert len(set(found.values())) == 1, found
    found = {}
    for build in BUILDS:
        with native.using(build) if build else native.disabled():
            program = Program(encoder, autotune=False)
        found[build] = outcome(build, program, clouds(**changes))
    assert len(set(found.values())) == 1, found
    assert issubclass(found[None][0], Geo3dError), found


@pytest.mark.parametrize("build", BUILDS, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_points_that_are_not_finite_are_said_to_be_that(name, build):
    pos = changed(GIVEN.pos, 4, torch.nan)
    kind, said = outcome(build, lambda: ENCODERS[name].eval()(clouds(pos=pos)))
    assert kind is NotFiniteError and "holds NaN or infinite values; remove them first" in said
