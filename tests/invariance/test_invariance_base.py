import pytest
import torch

from geo3d import seeds
from geo3d.errors import ConfigError
from geo3d.invariance import (
    SO2,
    SO3,
    AnisotropicScale,
    Compose,
    CropCuboid,
    CropKNN,
    DensityGradient,
    Drop,
    Elastic,
    Jitter,
    Occlude,
    Permutation,
    Reflection,
    Resample,
    Scale,
    Selection,
    Tilt,
    Translation,
)
from geo3d.testing import tiny_batch

ALL = [
    SO3(),
    SO2(),
    SO2("x"),
    Translation(),
    Scale(),
    AnisotropicScale(),
    Reflection("xyz"),
    Permutation(),
    Jitter(),
    Drop(),
    Resample(5),
    CropCuboid(),
    CropKNN(),
    Occlude(),
    DensityGradient(),
    Tilt(),
    Elastic(),
    Jitter() @ Drop() @ SO3(),
]
every = pytest.mark.parametrize("invariance", ALL, ids=repr)
BATCHES = {
    "uniform": {"num_points": 32},
    "ragged": {"num_points": [1, 40, 9]},
    "single points": {"num_points": [1, 1]},
}
batches = pytest.mark.parametrize("kind", BATCHES)


def make(kind, dtype=torch.float32):
    batch = tiny_batch(**BATCHES[kind], dtype=dtype)
    batch.joints = torch.ones(len(batch.y), 4, 3, dtype=dtype)
    return batch


def same(a, b):
    assert set(a.keys()) == set(b.keys())
    for key in a.keys():  # noqa: SIM118 (a Data is no dict)
        assert torch.equal(a[key], b[key]) if isinstance(a[key], torch.Tensor) else a[key] == b[key], key


@every
@batches
def test_batch_is_left_alone_and_result_is_a_sound_batch(invariance, kind):
    batch = make(kind)
    before = batch.clone()
    out = invariance(batch, seeds.generator(0))
    same(batch, before)
    assert out.ptr[0] == 0 and out.ptr[-1] == len(out.pos) and (out.ptr.diff() > 0).all()
    assert torch.equal(out.batch, torch.arange(len(out.y)).repeat_interleave(out.ptr.diff()))
    assert out.pos.isfinite().all() and out.normal.isfinite().all()
    if out.get("num_points") is not None:
        assert (out.ptr.diff() == out.num_points).all()


@every
@batches
def test_attributes_stay_with_their_points(invariance, kind):
    batch = make(kind)
    out = invariance(batch, seeds.generator(0))
    assert torch.equal(out.rgb, batch.rgb[out.point_id])
    assert torch.equal(out.point_y, batch.point_y[out.point_id])
    assert torch.equal(out.batch, batch.batch[out.point_id])
    assert torch.equal(out.y, batch.y)
    assert len(out.point_id.unique()) == len(out.point_id)
    assert out.joints.shape == batch.joints.shape


@every
@batches
def test_generator_alone_decides(invariance, kind):
    batch = make(kind)
    element, out = invariance.draw(batch, seeds.generator(3))
    same(out, invariance(batch, seeds.generator(3)))
    same(out, invariance.act(element, batch))
    same(out, invariance.act(invariance.sample(batch, seeds.generator(3)), batch))
    torch.manual_seed(1)
    state = torch.get_rng_state()
    invariance(batch, seeds.generator(3))
    assert torch.equal(state, torch.get_rng_state())


@every
def test_another_key_gives_another_result(invariance):
    batch = tiny_batch(num_points=64)
    a, b = (invariance(batch, seeds.generator(i)) for i in (1, 2))
    assert a.pos.shape != b.pos.shape or not torch.equal(a.pos, b.pos)


@every
@batches
def test_float64_stays_float64(invariance, kind):
    out = invariance(make(kind, torch.float64), seeds.generator(0))
    assert out.pos.dtype == out.normal.dtype == out.joints.dtype == torch.float64


@every
@batches
def test_gradients_reach_the_points_that_are_kept(invariance, kind):
    batch = make(kind, torch.float64)
    batch.pos.requires_grad_()
    out = invariance(batch, seeds.generator(0))
    out.pos.square().sum().backward()
    expected = torch.zeros(len(batch.pos), dtype=torch.bool)
    expected[out.point_id] = True
    assert torch.equal(batch.pos.grad.abs().sum(1) > 0, expected)


@every
def test_a_uniform_batch_is_treated_like_a_ragged_one(invariance):
    uniform = tiny_batch(num_points=16, dtype=torch.float64)
    ragged = uniform.clone()
    del ragged["num_points"]
    a, b = (invariance(batch, seeds.generator(0)) for batch in (uniform, ragged))
    assert torch.equal(a.ptr, b.ptr)
    assert torch.equal(a.point_id, b.point_id)
    assert torch.allclose(a.pos, b.pos, atol=1e-14)
    assert torch.allclose(a.normal, b.normal, atol=1e-14)


@pytest.mark.parametrize("invariance", [i for i in ALL if isinstance(i, Selection)], ids=repr)
def test_coinciding_points_do_not_matter(invariance):
    batch = tiny_batch(num_points=[12, 30])
    batch.pos[:] = batch.pos[0]
    out = invariance(batch, seeds.generator(0))
    assert (out.ptr.diff() > 0).all()
    half = tiny_batch(num_points=[12, 30])
    half.pos[1::2] = half.pos[::2]
    assert (invariance(half, seeds.generator(0)).ptr.diff() > 0).all()


def test_matmul_applies_the_right_one_first():
    batch = tiny_batch(num_points=[3, 8], dtype=torch.float64)
    scale, shift = AnisotropicScale(2.0, 2.0), Translation()
    chain = scale @ shift
    (first, second), out = chain.draw(batch, seeds.generator(0))
    assert torch.allclose(out.pos, 2 * (batch.pos + first[batch.batch]))
    assert torch.equal(second, torch.full((2, 3), 2.0, dtype=torch.float64))
    assert chain.name == "AnisotropicScale @ Translation"
    same(out, Compose([shift, scale])(batch, seeds.generator(0)))


def test_compose_is_associative_in_what_it_does():
    batch = tiny_batch()
    a, b, c = SO3(), Drop(), Jitter()
    left, right = (a @ b) @ c, a @ (b @ c)
    same(left(batch, seeds.generator(0)), right(batch, seeds.generator(0)))
    assert left.name == right.name == "SO3 @ Drop @ Jitter"


def test_parts_see_the_points_that_are_left():
    batch = tiny_batch(num_points=[50, 7])
    chain = Compose([Resample(20), Drop(0.9), CropKNN(0.5, 0.5), Jitter()])
    (resample, drop, crop, noise), out = chain.draw(batch, seeds.generator(0))
    assert resample.ptr.tolist() == [0, 20, 27]
    assert len(crop.points) == len(noise) == len(out.pos)
    assert out.ptr.diff().tolist() == [-(-int(n) // 2) for n in drop.ptr.diff()]


def test_no_parts_change_nothing():
    batch = tiny_batch()
    element, out = Compose([]).draw(batch, seeds.generator(0))
    assert element == ()
    same(out, batch)


def test_names_and_keywords_show():
    assert Jitter().name == "Jitter"
    assert SO2("x").name == "SO2(x)"
    assert repr(Compose([SO3(), Jitter(std=0.1)])) == "Compose(parts=[SO3(), Jitter(std=0.1, clip=0.05)])"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Compose([SO3(), "jitter"]), r"Compose.parts: .*'jitter'\] is not a list of Invariance"),
        (lambda: SO2("w"), "SO2.axis: 'w' is not x, y or z"),
        (lambda: Translation(-1), "Translation.max_shift: -1 is not a float from 0 to 1000000"),
        (lambda: Translation("far"), "max_shift: 'far' is not a float from 0"),
        (lambda: Translation(float("nan")), "max_shift"),
        (lambda: Translation(float("inf")), "max_shift"),
        (lambda: Scale(1.5, 0.5), r"Scale: low must not be above high; found \(1.5, 0.5\)"),
        (lambda: AnisotropicScale(0, 1), "AnisotropicScale.low: 0 is not a float from 0.001"),
        (lambda: Reflection("xx"), "Reflection.axes: 'xx' is not different letters of xyz"),
        (lambda: Reflection(""), "axes"),
        (lambda: Reflection(3), "axes"),
        (lambda: Jitter(std=True), "Jitter.std: True is not a float from 0"),
        (lambda: Jitter(clip=-0.1), "clip"),
        (lambda: Drop(1.5), "Drop.max_ratio: 1.5 is not a float from 0 to 1"),
        (lambda: Resample(0), "Resample.num_points: 0 is not an int from 1"),
        (lambda: Resample(10.0), "num_points: 10.0 is not an int"),
        (lambda: CropKNN(0.9, 0.4), "min_ratio must not be above max_ratio"),
        (lambda: CropKNN(max_ratio=1.2), "CropKNN.max_ratio: 1.2 is not a float above 0 and up to 1"),
        (lambda: CropKNN(min_points=0), "min_points"),
        (lambda: CropCuboid(aspect=0.5), "CropCuboid.aspect: 0.5 is not a float from 1"),
        (lambda: CropCuboid(min_ratio=0), "min_ratio"),
        (lambda: Occlude(distance=1.0), "Occlude.distance: 1.0 is not a float above 1"),
        (lambda: Occlude(radius=0.5), "Occlude.radius: 0.5 is not a float from 1"),
        (lambda: DensityGradient(2), "max_ratio"),
        (lambda: DensityGradient(slope=-1), "DensityGradient.slope: -1 is not a float from 0 to 100"),
    ],
)
def test_bad_keywords_are_refused_in_one_line(build, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
