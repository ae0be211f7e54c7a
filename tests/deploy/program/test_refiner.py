"""A compiled refinement gives what its head gives, for every build, and leaves to the head what it cannot take."""

import pytest
import torch
from support.default_dtype import default_dtype

from geo3d.cloud import Features, Layout, Level
from geo3d.deploy.program.refiner import RefinerProgram
from geo3d.errors import CloudError, NotFiniteError
from geo3d.heads import JointRefiner
from geo3d.ops import native
from geo3d.seeds import generator, seeded

WIDTH, BELOW, JOINTS = 6, 5, 7
pytestmark = pytest.mark.skipif(native.name() is None, reason="the compiled kernels are switched off")


@pytest.fixture(params=native.builds())
def build(request):
    with native.using(request.param):
        yield request.param


def head(**keywords):
    with seeded(0, "refiner"):
        made = JointRefiner(WIDTH, BELOW, num_joints=JOINTS, hidden=8, **keywords)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def features(sizes, seed=0):
    draw = generator("refiner", seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    pos, x = (torch.randn(int(ptr[-1]), channels, generator=draw) for channels in (3, BELOW))
    cloud = torch.randn(len(sizes), WIDTH, generator=draw)
    size = sizes[0] if len(set(sizes)) == 1 else None
    level = Level(pos, Layout(ptr, size), x)
    return Features(x, cloud, (level, level))


def same(made, expected):
    assert len(made) == len(expected)
    for one, other in zip(made, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("channels", [16, 48, 128])
@pytest.mark.parametrize("sizes", [(40,), (3, 20, 8), (30, 30)])
def test_the_head_itself(build, sizes, channels, k):
    plain = head(channels=channels, k=k)
    program = RefinerProgram(plain)
    with torch.no_grad():
        for seed in range(2):
            given = features(sizes, seed)
            same(program(given), plain(given))


def test_offsets_of_32_bits_are_taken(build):
    plain, given = head(channels=16), features((30, 9))
    level = given.levels[1]
    short = level._replace(layout=Layout(level.layout.ptr.int()))
    with torch.no_grad():
        same(RefinerProgram(plain)(given._replace(levels=(short, short))), plain(given))


def test_large_values_stay_finite_and_the_uncertainty_in_its_range(build):
    plain, given = head(channels=16), features((30, 9))
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(plain.update, name).mul_(300)
        plain.move[..., 3].mul_(100)
        estimates = RefinerProgram(plain)(given)
        same(estimates, plain(given))
    assert float(estimates[-1].log_std.min()) == -8 and float(estimates[-1].log_std.max()) == 2


def test_clouds_stop_where_they_stop_in_the_head(build):
    plain, given = head(channels=16), features((30,) * 8)
    program = RefinerProgram(plain)
    with torch.no_grad():
        chances = torch.stack([each.go_on for each in plain(given)]).sigmoid()
    for exit_below in (0.0, float(chances[0].median()) + 1e-4, 1.0):
        plain.exit_below = program.head.exit_below = exit_below
        with torch.no_grad():
            same(program(given), plain(given))
    assert len(program(given)) == 1
    program.head.exit_below, program.head.steps = 0.0, 5
    assert len(program(given)) == 6


def test_results_of_one_call_outlive_the_next(build):
    program = RefinerProgram(head(channels=16))
    first = program(features((30,)))
    kept = [each.clone() for estimate in first for each in estimate]
    program(features((30,), seed=1))
    again = [each for estimate in first for each in estimate]
    assert all(torch.equal(one, other) for one, other in zip(again, kept, strict=True))


def test_later_changes_of_the_head_have_no_effect():
    plain, given = head(channels=16), features((30,))
    program = RefinerProgram(plain)
    before = program(given)[-1].joints
    plain.move.data.zero_()
    assert torch.equal(program(given)[-1].joints, before)


def test_other_channels_and_no_kernels_leave_it_to_the_head():
    plain, given = head(channels=20), features((30, 9))
    with torch.no_grad():
        same(RefinerProgram(plain)(given), plain(given))
        with native.disabled():
            full = head(channels=16)
            same(RefinerProgram(full)(given), full(given))


def test_another_default_type_changes_nothing():
    plain, given = head(channels=16), features((30, 9))
    with torch.no_grad():
        expected = plain(given)
    with default_dtype(torch.float64):
        same(RefinerProgram(plain)(given), expected)


def test_bad_values_are_refused(build):
    program, given = RefinerProgram(head(channels=16)), features((30,))
    given.levels[1].pos[3, 2] = torch.inf
    with pytest.raises(NotFiniteError, match="points, joints, features or weights of a refinement"):
        program(given)
    for name in ("state", "update", "of_point"):
        plain = head(channels=16)
        next(plain.get_submodule(name).parameters()).data[0, 0] = torch.nan
        with pytest.raises(NotFiniteError, match="of a refinement holds NaN"):
            RefinerProgram(plain)(features((30,)))
    given = features((30,))
    broken = given.levels[1]._replace(layout=Layout(torch.tensor([0, 29])))
    with pytest.raises(CloudError, match="offsets"):
        program(given._replace(levels=(broken, broken)))
