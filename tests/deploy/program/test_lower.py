import pytest
import torch
from torch import nn
from torch_geometric.data import Data

from geo3d.cloud import make_batch
from geo3d.compress.quantize import calibrate, quantize
from geo3d.compress.structure import structure
from geo3d.deploy.program.lower import lower, reference
from geo3d.deploy.program.program import Program
from geo3d.encoders import DGCNN
from geo3d.errors import ConfigError
from geo3d.nn.granularity import RowGroups
from geo3d.nn.quantizer import Quantizer
from geo3d.ops import native
from geo3d.ops.quant import int8

PATHS = [(build, path) for build in native.builds() for path in int8.PATHS]


def points(count, seed=1):
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


UNIFORM = make_batch(points(200), num_points=50)
RAGGED = make_batch(points(300, seed=2), ptr=torch.tensor([0, 1, 4, 197, 300]))
ONE = make_batch(points(1, seed=3), num_points=1)


def rounded(weights=8, activations=8, *, dynamic=True, form=None, per_channel=True, channels=(16, 24, 70)):
    """A quantised encoder whose norms are as after training, with scales of both signs."""
    generator = torch.Generator().manual_seed(0)
    encoder = DGCNN(k=5, channels=channels, embedding=37, dynamic=dynamic)
    for parameter in encoder.parameters():
        parameter.data.normal_(generator=generator).mul_(parameter.shape[-1] ** -0.5)
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.weight.data.normal_(generator=generator)
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    if form is not None:
        encoder = structure(encoder, 2.0, min_channels=8, low_rank=form == "low rank")
    return calibrate(quantize(encoder, weights, activations, per_channel=per_channel), [UNIFORM]).eval()


def watched(encoder, data):
    """The encoder's features, and the codes of the inputs of its layers and of b in its edge convolutions."""
    codes, hooks = {}, []
    for name, module in encoder.named_modules():
        if isinstance(module, Quantizer) and not name.endswith(".quantizer"):
            hooks.append(module.register_forward_hook(lambda m, x, _, name=name: codes.update({name: m.codes(x[0])})))
    with torch.no_grad():
        features = encoder(data)
    for hook in hooks:
        hook.remove()
    return features, codes


def moved(codes, by):
    """(M, C) how far the sums of a layer change if its input codes change by ``by``."""
    weight = codes.weight.codes().double()
    return (by[:, : weight.shape[1]].double() @ weight.t()).abs() * codes.scale.abs().double()


def follows(lowered, trace, codes, data):
    """Bounds of how far point and cloud features may differ, given the codes that differ and the layers' weights.

    After a sum only the gain enlarges differences; activation, maximum and mean do not.
    """
    points = []
    for i, edge in enumerate(lowered.edges):
        of_b = codes[f"layers.{i}.neighbor_quantizer"].double() - trace[f"layers.{i}.b"].double()
        far = (of_b.abs() * edge.rounding.step.double())[trace[f"layers.{i}.neighbors"]].amax(1)
        if edge.product.codes is not None:
            q = codes[f"layers.{i}.linear.input_quantizer"]
            parts = moved(edge.product.codes, trace[f"layers.{i}.codes"][:, : q.shape[1]].double() - q.double())
            far = far + sum(parts.chunk(2, 1))
        points.append(far * edge.gain.double())
    q = codes["embed.input_quantizer"]
    of_z = moved(lowered.embed.codes, trace["embed.codes"][:, : q.shape[1]].double() - q.double())
    clouds = [torch.cat([part.amax(0), part.mean(0)]) for part in of_z.split(data.ptr.diff().tolist())]
    return torch.cat(points, 1), torch.stack(clouds)


@pytest.mark.parametrize("form", [None, "sums", "low rank"])
@pytest.mark.parametrize("bits", [(8, 8), (4, 4), (2, 2), (4, 8)])
def test_the_reference_is_the_encoder(bits, form):
    encoder = rounded(*bits, dynamic=False, form=form)
    names = {f"layers.{i}.neighbor_quantizer": f"layers.{i}.b" for i in range(3)}
    names |= {f"layers.{i}.linear.input_quantizer": f"layers.{i}.codes" for i in (1, 2)}
    names["embed.input_quantizer"] = "embed.codes"
    different = total = 0
    for data in (UNIFORM, RAGGED):
        (point, cloud, _), codes = watched(encoder, data)
        trace, lowered = {}, lower(encoder)
        found = reference(lowered, data, trace=trace)
        assert set(codes) == set(names)
        for name, q in codes.items():
            different += int((trace[names[name]][:, : q.shape[1]] != q).sum())
            total += q.numel()
        # A value halfway between two codes may be rounded either way; follows() bounds the differences it causes.
        for one, other, far in zip(found[:2], (point, cloud), follows(lowered, trace, codes, data), strict=True):
            assert ((one - other).abs() <= far + 1e-5 * (1 + other.abs())).all()
    assert different < (1e-3 if form is None else 3e-3) * total  # one feature enters many windows


@pytest.mark.parametrize("per_channel", [True, False])
def test_sums_are_those_of_whole_numbers(per_channel):
    lowered, trace = lower(rounded(per_channel=per_channel)), {}
    reference(lowered, RAGGED, trace=trace)
    products = {"layers.1": lowered.edges[1].product, "layers.2": lowered.edges[2].product, "embed": lowered.embed}
    for name, product in products.items():
        weight, q = product.codes.weight.codes(), trace[f"{name}.codes"]
        assert weight.dtype == torch.int8
        assert int(weight.abs().max()) <= 63
        plain = (q[:, None, : weight.shape[1]].long() * weight.long()).sum(2)
        assert trace[f"{name}.sums"].dtype == torch.int32
        assert torch.equal(trace[f"{name}.sums"].long(), plain)


def test_a_layer_by_the_formulas():
    encoder = rounded(4, 4)
    lowered, trace = lower(encoder), {}
    reference(lowered, RAGGED, trace=trace)
    layer, norm = encoder.layers[1], encoder.layers[1].norm
    of_x, of_w, of_b = layer.linear.input_quantizer, layer.linear.quantizer, layer.neighbor_quantizer
    sign = torch.where(norm.weight < 0, -1.0, 1.0)
    difference, center = layer.linear.weight.chunk(2, 1)
    both = torch.cat([center, difference]) * sign.repeat(2)[:, None]
    x = trace["layers.0.out"].double()
    x_hat = of_x.codes(x.float()).double() * of_x.step.double() + of_x.offset.double()
    w_hat = of_w.codes(both).double() * of_w.step.double()[:, None]
    c, b = (x_hat @ w_hat.t()).chunk(2, 1)
    of_neighbors = trace["layers.1.b"].double()
    assert (of_neighbors - ((b - of_b.offset.double()) / of_b.step.double()).clamp(0, of_b.qmax)).abs().max() < 0.5001
    top = of_neighbors[trace["layers.1.neighbors"]].amax(1) * of_b.step.double() + of_b.offset.double()
    z = ((c - b + top) * sign - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected = nn.functional.leaky_relu(z, encoder.negative_slope)
    torch.testing.assert_close(trace["layers.1.out"].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("build", "path"), PATHS)
def test_compiled_calls_give_the_same_bits(build, path):
    with native.using(build):
        if path not in int8.paths():
            pytest.skip("not on this processor")
        encoder = rounded(4, 4)
        lowered = lower(encoder)
        for data in (RAGGED, ONE):
            expected = reference(lowered, data)
            for threads in (1, 3):
                with int8.using(path):
                    found = Program(encoder, precision="int8", threads=threads)(data)
                assert all(torch.equal(one, other) for one, other in zip(found[:2], expected[:2], strict=True))


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("form", [None, "sums", "low rank"])
@pytest.mark.parametrize("bits", [(8, 8), (2, 2)])
def test_compiled_calls_in_every_form(bits, form, dynamic):
    encoder = rounded(*bits, dynamic=dynamic, form=form, channels=(16, 32, 64))
    program, expected = Program(encoder, precision="int8"), reference(lower(encoder), RAGGED)
    assert all(torch.equal(one, other) for one, other in zip(program(RAGGED)[:2], expected[:2], strict=True))
    assert program.native == (native.name() is not None)


def test_without_compiled_kernels_the_reference_runs():
    encoder = rounded(4, 4)
    program = Program(encoder, precision="int8")
    with native.disabled():
        expected = reference(lower(encoder), UNIFORM)
        assert all(torch.equal(one, other) for one, other in zip(program(UNIFORM)[:2], expected[:2], strict=True))


def test_given_neighbors():
    encoder = rounded()
    lowered, trace = lower(encoder), {}
    expected = reference(lowered, Data(pos=points(30)), trace=trace)
    tables = [trace[f"layers.{i}.neighbors"] for i in range(3)]
    found = reference(lowered, Data(pos=points(30)), tables=tables)
    assert all(torch.equal(one, other) for one, other in zip(found[:2], expected[:2], strict=True))
    other = reference(lowered, Data(pos=points(30)), tables=[table.flip(0) for table in tables])
    assert not torch.equal(other.cloud, expected.cloud)


def test_an_encoder_that_rounds_nothing():
    encoder = DGCNN(k=3, channels=(8, 16), embedding=8).eval()
    with torch.no_grad():
        expected = encoder(RAGGED)
    for one, other in zip(reference(lower(encoder), RAGGED)[:2], expected[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_what_has_no_whole_number_form_is_refused():
    encoder = rounded()
    encoder.layers[1].neighbor_quantizer = None
    with pytest.raises(ConfigError, match=r"layers\.1 .* not b"):
        lower(encoder)
    encoder = rounded()
    encoder.embed.input_quantizer = Quantizer.configuration(3, 8)
    with pytest.raises(ConfigError, match="embed: features are deployed as codes from 0"):
        lower(encoder)
    for steps in (2, 32):
        encoder = rounded()
        encoder.embed.input_quantizer = Quantizer(8, signed=False, offset=True, granularity=RowGroups(steps))
        with pytest.raises(ConfigError, match=rf"RowGroups\(groups={steps}\)"):
            lower(encoder)
    assert not Program(rounded_with_statistics_missing()).native


def rounded_with_statistics_missing():
    encoder = DGCNN(k=3, channels=(8,), embedding=8).eval()
    encoder.norm.running_mean = encoder.norm.running_var = None
    return encoder
