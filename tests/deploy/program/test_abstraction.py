"""A compiled PointNet++ gives what the encoder gives, for every build, and hands to the encoder what it cannot take."""

import pytest
import torch
from support.default_dtype import default_dtype
from torch import nn
from torch_geometric.data import Data

from geo3d.cloud import make_batch
from geo3d.compress.prune import prune
from geo3d.compress.quantize import quantize
from geo3d.deploy.program.abstraction import compiles
from geo3d.deploy.program.plan import STAGES
from geo3d.deploy.program.program import Program, stages
from geo3d.encoders import PointNet2
from geo3d.errors import CloudError, NotFiniteError
from geo3d.ops import native
from geo3d.seeds import generator, seeded

SMALL = {"num_samples": (16, 4), "width": 0.125}
ENCODERS = {
    "one scale": SMALL,
    "several scales": {**SMALL, "scales": "msg"},
    "start": {**SMALL, "start": "farthest"},
    "one level": {"num_samples": (8,), "radii": (0.5,), "num_neighbors": (7,), "channels": ((8, 9), (10, 11))},
    "equal levels": {**SMALL, "num_samples": (8, 8)},
    "fields": {**SMALL, "inputs": ("normal", "rgb")},
    "absolute": {**SMALL, "inputs": ("rgb",), "absolute": True, "channels": ((16, 16), (16, 32))},
}
pytestmark = pytest.mark.skipif(native.name() is None, reason="the compiled kernels are switched off")


@pytest.fixture(params=native.builds())
def build(request):
    with native.using(request.param):
        yield request.param


def encoder(name):
    with seeded(0, "abstraction"):
        made = PointNet2(**ENCODERS[name])
        for norm in made.modules():
            if isinstance(norm, nn.BatchNorm1d):
                for values in (norm.weight, norm.bias, norm.running_mean):
                    values.data.normal_()
                norm.running_var.uniform_(0.5, 2)
    return made.eval()


def clouds(count, size, seed=0):
    draw = generator("abstraction", seed)
    pos, normal, rgb = (torch.rand(count * size, 3, generator=draw) * 2 - 1 for _ in range(3))
    return make_batch(pos, num_points=size, normal=normal, rgb=rgb)


def same(made, expected):
    torch.testing.assert_close(made.point, expected.point, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(made.cloud, expected.cloud, atol=1e-5, rtol=1e-5)
    assert len(made.levels) == len(expected.levels)
    for one, other in zip(made.levels, expected.levels, strict=True):
        torch.testing.assert_close(one.x, other.x, atol=1e-5, rtol=1e-5)
        assert torch.equal(one.pos, other.pos) and torch.equal(one.layout.ptr, other.layout.ptr)
        assert one.layout.size == other.layout.size
        assert one.rows is other.rows is None or torch.equal(one.rows, other.rows)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_itself_in_several_sizes(build, name):
    plain = encoder(name)
    program = Program(plain)
    assert program.native
    with torch.no_grad():
        for count, size in ((1, 16), (3, 40), (1, 300), (3, 40)):
            batch = clouds(count, size)
            same(program(batch), plain(batch))
        cloud = Data(pos=clouds(1, 60).pos, normal=clouds(1, 60).normal, rgb=clouds(1, 60).rgb)
        same(program(cloud), plain(cloud))


@pytest.mark.parametrize("name", ["one scale", "several scales"])
def test_results_of_one_call_outlive_the_next(build, name):
    program = Program(encoder(name))
    first = program(clouds(2, 50))
    kept = [each.clone() for each in (first.point, first.cloud, *(level.x for level in first.levels[1:]))]
    rows = [level.rows.clone() for level in first.levels[1:]]
    program(clouds(2, 50, seed=1))
    again = (first.point, first.cloud, *(level.x for level in first.levels[1:]))
    assert all(torch.equal(one, other) for one, other in zip(again, kept, strict=True))
    assert all(torch.equal(level.rows, other) for level, other in zip(first.levels[1:], rows, strict=True))


def test_later_changes_of_the_encoder_have_no_effect():
    plain = encoder("one scale")
    program, batch = Program(plain), clouds(1, 50)
    before = program(batch).cloud
    plain.levels[0].scales[0].first.weight.data.zero_()
    assert torch.equal(program(batch).cloud, before)


def test_clouds_of_several_sizes_or_few_points_go_through_the_encoder(build):
    plain = encoder("one scale")
    program = Program(plain)
    ragged = make_batch(clouds(1, 60).pos, ptr=torch.tensor([0, 20, 60]))
    with torch.no_grad():
        for batch in (ragged, clouds(2, 15), Data(pos=clouds(1, 20).pos, batch=torch.tensor([0] * 5 + [1] * 15))):
            same(program(batch), plain(batch))


def test_pruned_weights_are_compiled_and_rounded_ones_are_not():
    plain, batch = encoder("one scale"), clouds(2, 50)
    pruned = prune(plain, 0.5).eval()
    assert compiles(pruned)
    with torch.no_grad():
        same(Program(pruned)(batch), pruned(batch))
    rounded = quantize(plain).eval()
    assert not compiles(rounded)
    plain.levels[1].scales[0].first.input_quantizer = rounded.levels[1].scales[0].first.input_quantizer
    assert not compiles(plain)
    assert not compiles(encoder("one scale").train())
    assert not compiles(encoder("one scale").double())


def test_without_kernels_the_encoder_is_called():
    plain, batch = encoder("one scale"), clouds(2, 50)
    program = Program(plain)
    with native.disabled(), torch.no_grad():
        assert not program.native
        same(program(batch), plain(batch))


def test_bad_clouds_are_refused_as_by_the_encoder(build):
    program, batch = Program(encoder("one scale")), clouds(2, 50)
    batch.pos[7, 1] = torch.nan
    with pytest.raises(NotFiniteError):
        program(batch)
    batch = clouds(2, 50)
    batch.num_points = 40
    with pytest.raises(CloudError, match="100 points cannot be 2 clouds of 40"):
        program(batch)
    fields = Program(encoder("fields"))
    with pytest.raises(CloudError, match="no 'normal'"):
        fields(make_batch(batch.pos, num_points=50))


def test_another_default_type_changes_nothing():
    plain, batch = encoder("several scales"), clouds(2, 50)
    with torch.no_grad():
        expected = plain(batch)
    with default_dtype(torch.float64):
        same(Program(plain)(batch), expected)


def test_all_stages_take_time():
    times = stages(Program(encoder("one scale")), clouds(1, 200), repeats=3)
    assert tuple(times) == STAGES and all(time > 0 for time in times.values())


def test_a_plan_made_in_inference_mode_serves_gradients(build):
    program, batch = Program(encoder("one scale")), clouds(1, 50)
    with torch.inference_mode():
        program(batch)
    last = program(batch).levels[-1]
    features = torch.ones(16, 3, requires_grad=True)
    features[last.rows].sum().backward()
    assert features.grad is not None and int(features.grad.sum()) == 12
