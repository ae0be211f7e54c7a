"""Results do not depend on torch's default dtype: no buffer that a kernel reads or writes takes it."""

from functools import partial

import pytest
import torch
from support.default_dtype import default_dtype
from support.operator_cases import CASES, SIZES, Inputs

from geo3d.cloud import Features, make_batch
from geo3d.compress.adaptive.encoder import adapt
from geo3d.compress.prune import prune
from geo3d.compress.quantize import calibrate, quantize
from geo3d.compress.structure import structure
from geo3d.deploy.program.program import Program
from geo3d.deploy.runtime import Runtime
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.ops import native

OTHERS = [torch.float64, torch.bfloat16]
BUILDS = [native.name(), None] if native.name() else [None]


def under(dtype, function, *arguments):
    """What the function gives while torch's default dtype is another."""
    with default_dtype(dtype):
        return function(*arguments)


def switched(build):
    return native.using(build) if build else native.disabled()


def assert_same(found, expected):
    assert len(found) == len(expected)
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one.dtype == other.dtype, f"output {place}: {one.dtype} instead of {other.dtype}"
        assert torch.equal(one, other), f"output {place} differs by {(one - other).abs().max()}"


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@pytest.mark.parametrize("build", BUILDS, ids=str)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_operators(name, sizes, build, dtype):
    with switched(build):
        expected = CASES[name](Inputs(SIZES[sizes]))
        assert_same(under(dtype, lambda: CASES[name](Inputs(SIZES[sizes]))), expected)


def clouds(sizes, channels=3):
    inputs = Inputs(SIZES[sizes])
    extra = {} if channels == 3 else {"x": inputs.floats(inputs.rows, channels - 3)}
    return make_batch(inputs.pos, ptr=inputs.ptr, **extra)


SMALL = {"k": 4, "channels": (16, 24), "embedding": 32}
RANKS = {"layers.1.linear": 9, "embed": 20}
ENCODERS = {
    "DGCNN": lambda: DGCNN(**SMALL),
    "DGCNN of one graph": lambda: DGCNN(**SMALL, dynamic=False),
    "PointNet": lambda: PointNet(embedding=32, width=0.25),
    "PointNet2": lambda: PointNet2(num_samples=(4, 2), width=0.125),
    "PointNet2 msg": lambda: PointNet2("msg", num_samples=(4, 2), width=0.125),
    "structured": lambda: structure(DGCNN(**SMALL), ranks=RANKS),
    "low rank": lambda: structure(DGCNN(**SMALL), low_rank=True, ranks=RANKS),
    "pruned": lambda: prune(DGCNN(**SMALL), 0.5),
    "pruned weights": lambda: prune(DGCNN(**SMALL), 0.5, group="weight"),
    "W4A8": lambda: calibrate(quantize(DGCNN(**SMALL), 4, 8), [clouds("uniform")]),
    "adaptive": lambda: adapt(DGCNN(**SMALL), widths=(0.5, 1), depths=(2,), ks=(2, 4), points=(8, 16)),
}


def made(name):
    torch.manual_seed(0)
    return ENCODERS[name]()


def gradients(encoder, batch):
    encoder.train()
    features = encoder(batch)
    (features.cloud.square().sum() + features.point.square().sum()).backward()
    found = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    return [features.point.detach(), features.cloud.detach(), *found, *encoder.buffers()]


def evaluated(encoder, batch):
    with torch.no_grad():
        return flat(encoder.eval()(batch))


def flat(features: Features) -> list[torch.Tensor]:
    """Every tensor of an encoder's result."""
    return [*features[:2], *(each for level in features.levels for each in (level.pos, level.layout.ptr, level.x))]


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@pytest.mark.parametrize("build", BUILDS, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_forward_and_backward(name, build, dtype):
    with switched(build):
        for sizes in SIZES:
            if sizes == "ragged" and name == "PointNet2":
                continue  # a cloud of one point has one centre: nothing to normalise over
            expected, found = made(name), made(name)
            wanted = gradients(expected, clouds(sizes)), evaluated(expected, clouds(sizes))
            for one, other in zip(
                under(dtype, lambda e, b: (gradients(e, b), evaluated(e, b)), found, clouds(sizes)), wanted, strict=True
            ):
                assert_same(one, other)


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
@pytest.mark.parametrize("build", BUILDS, ids=str)
@pytest.mark.parametrize("name", ENCODERS)
def test_programs_and_runtimes(name, build, dtype):
    def run(encoder) -> list[torch.Tensor]:
        one = partial(Program, autotune=False)  # what is measured differs from time to time
        programs = [one(encoder), *([Program(encoder, precision="int8")] if name == "W4A8" else [])]
        found = [program(clouds(sizes)) for program in programs for sizes in SIZES]
        Program(encoder, num_points=20)
        if name != "adaptive":
            found.append(Runtime(encoder, num_points=20, repeats=1, compile=one)(clouds("uniform")))
        return [each for features in found for each in flat(features)]

    encoder = made(name).eval()
    with switched(build):
        assert_same(under(dtype, run, encoder), run(encoder))


@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_compression_of_an_encoder(dtype):
    full = made("DGCNN").eval()

    def run() -> list[torch.Tensor]:
        steps = (
            lambda: structure(full, ranks={"layers.1.linear": 9, "embed": 20}),
            lambda: structure(full, low_rank=True, ranks={"layers.1.linear": 9, "embed": 20}),
            lambda: calibrate(quantize(full, 4, 8), [clouds("uniform")]),
            lambda: prune(full, 0.5, group="weight"),
            lambda: prune(full, 0.5),
        )
        compressed = [step().eval() for step in steps]
        return [
            each
            for encoder in compressed
            for each in (*encoder.state_dict().values(), *evaluated(encoder, clouds("ragged")))
        ]

    assert_same(under(dtype, run), run())
