import pytest
import torch
from torch.nn.functional import leaky_relu

from geo3d.errors import CloudError, ConfigError
from geo3d.ops import native
from geo3d.ops.dense import prepacked as packed
from geo3d.ops.dense.pooling import linear_pool

BUILDS = [*native.builds(), None]


def switched(build):
    return native.using(build) if build else native.disabled()


def draw(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("rows", "depth", "channels"), [(1, 1, 1), (7, 20, 33), (500, 64, 130)])
@pytest.mark.parametrize("slope", [1.0, 0.2, 0.0])
def test_linear_equals_plain_double_precision(build, rows, depth, channels, slope):
    x, weight, bias = draw((rows, depth + 2), (channels, depth), (channels,))
    x, buffer = x[:, :depth], torch.full((rows, channels + 1), 7.0)
    with switched(build):
        layer = packed.pack(weight)
        out = packed.linear(x, layer, bias, slope)
        packed.linear(x, layer, bias, slope, out=buffer[:, :channels])
        plain = packed.linear(x, layer)
    h = x.double() @ weight.double().t()
    torch.testing.assert_close(out.double(), leaky_relu(h + bias, slope), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plain.double(), h, rtol=1e-4, atol=1e-4)
    assert torch.equal(buffer[:, :channels], out) and (buffer[:, channels] == 7).all()


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize(("depth", "channels"), [(3, 1), (40, 150)])
def test_pooling_equals_the_operator_that_packs_each_time(build, depth, channels):
    x, weight, scale, shift = draw((514, depth), (channels, depth), (channels,), (channels,))
    ptr = torch.tensor([0, 1, 401, 514])
    with switched(build):
        out = packed.linear_pool(x, packed.pack(weight), scale, shift, 0.2, ptr)
        torch.testing.assert_close(out, linear_pool(x, weight, scale, shift, ptr, 0.2), rtol=1e-4, atol=1e-4)


def test_a_packed_weight_serves_every_build():
    x, weight = draw((40, 9), (70, 9))
    layer = packed.pack(weight)
    for build in [*BUILDS, *reversed(BUILDS)]:
        with switched(build):
            torch.testing.assert_close(packed.linear(x, layer), x @ weight.t())


@pytest.mark.parametrize("build", native.builds())
def test_bits_do_not_depend_on_the_threads(build):
    x, weight, scale, shift = draw((900, 30), (300, 30), (300,), (300,))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with switched(build):
                layer = packed.pack(weight)
                pooled = packed.linear_pool(x, layer, scale, shift, 0.2, torch.tensor([0, 300, 900]))
                results.append((packed.linear(x, layer, shift, 0.2), pooled))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("build", BUILDS)
def test_bad_input_is_told(build):
    x, weight, vector = draw((6, 4), (5, 4), (5,))
    for wrong in (weight.double(), vector, weight[:0]):
        with pytest.raises(ConfigError, match="float32"):
            packed.pack(wrong)
    with switched(build):
        layer = packed.pack(weight)
        for given in ((x[:, :3],), (x.double(),), (x, vector[:4]), (x, vector.double())):
            with pytest.raises(CloudError, match="packed layer"):
                packed.linear(given[0], layer, *given[1:])
        for out in (torch.zeros(6, 4), torch.zeros(5, 6).t(), torch.zeros(7, 5)):
            with pytest.raises(CloudError):
                packed.linear(x, layer, out=out)
        with pytest.raises(CloudError, match="int64"):
            packed.linear_pool(x, layer, vector, vector, 0.2, torch.tensor([0, 6], dtype=torch.int32))
    if build:
        with switched(build), pytest.raises(CloudError, match="offsets"):
            packed.linear_pool(x, layer, vector, vector, 0.2, torch.tensor([0, 7]))
