import numpy as np
import pytest
import torch

from geo3d.errors import CloudError, ConfigError, NotFiniteError
from geo3d.ops import native
from geo3d.ops.quant import int8, int8_reference

PATHS = []
for _build in native.builds():
    with native.using(_build):
        PATHS += [(_build, path) for path in int8.paths()]
SHAPES = [(1, 1, 1), (5, 3, 2), (33, 20, 17), (200, 64, 64), (97, 70, 130), (13, 2048, 40), (395, 129, 300)]


@pytest.fixture(params=PATHS, ids="-".join)
def compiled(request):
    build, path = request.param
    with native.using(build), int8.using(path):
        yield path


class Draw:
    def __init__(self, seed=0):
        self.generator = torch.Generator().manual_seed(seed)

    def floats(self, *shape):
        return torch.randn(*shape, generator=self.generator)

    def inputs(self, rows, depth):
        q = torch.randint(0, 256, (rows, depth + -depth % 4), generator=self.generator, dtype=torch.uint8)
        q[0], q[:, depth:] = 255, 0
        return q

    def weight(self, rows, depth):
        codes = torch.randint(-63, 64, (rows, depth), generator=self.generator, dtype=torch.int8)
        codes[0] = 63
        codes[rows // 2] = -63
        return codes

    def neighbors(self, rows, k):
        return torch.randint(0, rows, (rows, k), generator=self.generator)


def assert_same_bits(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert found.contiguous().numpy().tobytes() == expected.contiguous().numpy().tobytes()


def assert_as_defined(function, *arguments):
    found = function(*arguments)
    with native.disabled():
        expected = function(*arguments)
    for ours, theirs in zip(*((r if isinstance(r, tuple) else (r,)) for r in (found, expected)), strict=True):
        assert_same_bits(ours, theirs)
    return found


def with_numpy(acc, scale, shift):
    return acc.numpy().astype(np.float32) * scale.numpy() + shift.numpy()


def test_reference_is_exact_integers_and_separate_roundings():
    draw = Draw()
    q, codes, scale, shift = draw.inputs(7, 2048), draw.weight(5, 2048), draw.floats(5), draw.floats(5)
    acc = int8_reference.products(q, codes)
    assert torch.equal(acc.long(), q.long() @ codes.long().t())
    assert acc.max() == 255 * 63 * 2048
    z = with_numpy(acc, scale, shift)
    assert_same_bits(int8_reference.linear(q, codes, scale, shift, 1.0), torch.from_numpy(z))


def test_parts_of_an_edge_are_a_difference_and_codes():
    draw = Draw()
    q, codes, scale, shift = draw.inputs(9, 8), draw.weight(6, 8), draw.floats(6) * 1e-3, draw.floats(6)
    a, found = int8_reference.edge_parts(q, codes, scale, shift, torch.tensor([0.1]), torch.tensor([-1.0]), 30)
    c, b = np.split(with_numpy(int8_reference.products(q, codes), scale, shift), 2, axis=1)
    assert_same_bits(a, torch.from_numpy(c - b))
    expected = np.rint(np.clip((b - np.float32(-1)) / np.float32(0.1), 0, 30)).astype(np.uint8)
    assert_same_bits(found, torch.from_numpy(expected))


def test_sums_are_made_one_after_another_in_runs():
    z, sizes = Draw().floats(600, 3), [1, 385, 192, 22]
    expected, start = [], 0
    for size in sizes:
        total = np.zeros(3, np.float32)
        for first in range(start, start + size, 192):
            run = np.zeros(3, np.float32)
            for row in z[first : min(first + 192, start + size)].numpy():
                run += row
            total += run
        expected, start = [*expected, total], start + size
    assert_same_bits(int8_reference.sums(z, torch.tensor([0, *sizes]).cumsum(0)), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("channels", "depth"), [(1, 1), (16, 4), (17, 5), (70, 131)])
def test_packing_keeps_every_code(channels, depth, parts):
    codes = Draw().weight(parts * channels, depth)
    packed = int8.pack(codes, parts)
    assert torch.equal(packed.codes(), codes)
    assert packed.data.shape == (parts, -(-channels // 16), -(-depth // 4), 16, 4)
    assert packed.data.count_nonzero() == codes.count_nonzero()


@pytest.mark.parametrize(("rows", "depth", "channels"), SHAPES)
def test_layers_have_the_bits_of_the_definition(compiled, rows, depth, channels):
    draw = Draw()
    q, packed = draw.inputs(rows, depth), int8.pack(draw.weight(channels, depth))
    scale, shift = draw.floats(channels) * 1e-3, draw.floats(channels)
    acc = assert_as_defined(int8.accumulate, q, packed)
    assert torch.equal(acc.long(), q[:, :depth].long() @ packed.codes().long().t())
    for slope in (1.0, 0.2, 0.0):
        assert_as_defined(int8.linear, q, packed, scale, shift, slope)
    buffer = torch.full((rows, channels + 3), 7.0)
    int8.linear(q, packed, scale, shift, 0.2, out=buffer[:, 1 : channels + 1])
    assert_same_bits(buffer[:, 1 : channels + 1], int8.linear(q, packed, scale, shift, 0.2))
    assert (buffer[:, [0, -1]] == 7).all()


@pytest.mark.parametrize("depth", [1, 6, 33, 64])
@pytest.mark.parametrize("qmax", [3, 255])
def test_rounding_has_the_bits_of_torch(compiled, depth, qmax):
    x = Draw().floats(300, 2 * depth)[:, :depth]
    x[0], x[1], x[2] = torch.inf, -torch.inf, 1e30
    step, offset = torch.tensor([0.0137]), torch.tensor([-1.71])
    x[3:200] = offset + step * (torch.arange(197)[:, None] + 0.5)  # near the middle between two codes
    q = assert_as_defined(int8.quantize_rows, x, step, offset, qmax)
    assert torch.equal(q[:, :depth], torch.round(torch.clamp((x - offset) / step, 0, qmax)).to(torch.uint8))
    assert not q[:, depth:].any()


def test_halves_go_to_even_codes(compiled):
    x = (torch.arange(20.0) / 2)[None]
    q = int8.quantize_rows(x, torch.ones(1), torch.zeros(1), 255)
    assert torch.equal(q.float(), torch.round(x))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("rows", "depth", "channels"), SHAPES)
def test_edge_convolutions_have_the_bits_of_the_definition(compiled, rows, depth, channels, per_channel):
    draw = Draw()
    q, packed = draw.inputs(rows, depth), int8.pack(draw.weight(2 * channels, depth), 2)
    scale, shift = draw.floats(2 * channels) * 1e-3, draw.floats(2 * channels)
    count = channels if per_channel else 1
    step, offset = draw.floats(count).abs() * 0.02 + 0.01, draw.floats(count) - 1
    a, codes = assert_as_defined(int8.edge_parts, q, packed, scale, shift, step, offset, 200)
    neighbors, gamma, beta = draw.neighbors(rows, 7), draw.floats(channels).abs(), draw.floats(channels)
    out = assert_as_defined(int8.edge_evaluate, a, codes, neighbors, step, offset, gamma, beta, 0.2)
    buffer = torch.full((rows, channels + 2), 7.0)
    int8.edge_evaluate(a, codes, neighbors, step, offset, gamma, beta, 0.2, out=buffer[:, 1:-1])
    assert_same_bits(buffer[:, 1:-1], out)
    assert (buffer[:, [0, -1]] == 7).all()


def test_the_rounded_maximum_is_the_maximum_of_rounded_values(compiled):
    draw = Draw()
    q, packed, ones = draw.inputs(50, 8), int8.pack(draw.weight(24, 8), 2), torch.ones(12)
    scale, shift, neighbors = torch.full((24,), 1e-3), draw.floats(24), draw.neighbors(50, 9)
    step, offset = torch.tensor([0.05]), torch.tensor([-2.0])
    a, codes = int8.edge_parts(q, packed, scale, shift, step, offset, 100)
    b = (int8_reference.products(q, packed.codes()).float() * scale + shift)[:, 12:]
    values = torch.round(torch.clamp((b - offset) / step, 0, 100)) * step + offset
    out = int8.edge_evaluate(a, codes, neighbors, step, offset, ones, torch.zeros(12), 1.0)
    torch.testing.assert_close(out, a + values[neighbors].amax(1))


@pytest.mark.parametrize("sizes", [[1], [50, 50], [1, 300, 13, 192, 577]], ids=["one", "uniform", "ragged"])
@pytest.mark.parametrize(("depth", "channels"), [(3, 1), (40, 33), (64, 150)])
def test_pooling_has_the_bits_of_the_definition(compiled, sizes, depth, channels):
    draw, ptr = Draw(), torch.tensor([0, *sizes]).cumsum(0)
    q, packed = draw.inputs(sum(sizes), depth), int8.pack(draw.weight(channels, depth))
    scale, shift = draw.floats(channels) * 1e-3, draw.floats(channels)
    out = assert_as_defined(int8.linear_pool, q, packed, scale, shift, 0.2, ptr)
    z = int8.linear(q, packed, scale, shift, 0.2)
    for cloud, row in zip(z.split(sizes), out, strict=True):
        assert torch.equal(row[:channels], cloud.amax(0))
        torch.testing.assert_close(row[channels:].double(), cloud.double().mean(0), rtol=1e-5, atol=1e-5)


def test_bits_do_not_depend_on_the_threads(compiled):
    draw, ptr = Draw(), torch.tensor([0, 500, 501, 900])
    q, packed, pairs = draw.inputs(900, 40), int8.pack(draw.weight(290, 40)), int8.pack(draw.weight(160, 40), 2)
    scale, shift, neighbors = draw.floats(290) * 1e-3, draw.floats(290), draw.neighbors(900, 5)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            rounding = torch.tensor([0.05]), torch.tensor([-2.0])
            a, codes = int8.edge_parts(q, pairs, scale[:160].contiguous(), shift[:160].contiguous(), *rounding, 255)
            gamma, beta = scale[:80].abs(), shift[:80].contiguous()
            results.append([
                a, codes, int8.linear(q, packed, scale, shift), int8.linear_pool(q, packed, scale, shift, 0.2, ptr),
                int8.quantize_rows(a, *rounding, 99),
                int8.edge_evaluate(a, codes, neighbors, *rounding, gamma, beta, 0.2),
            ])  # fmt: skip
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for found, expected in zip(other, results[0], strict=True):
            assert_same_bits(found, expected)


def test_a_folded_layer_is_the_layer_of_rounded_values(compiled):
    draw = Draw()
    x, codes = draw.floats(60, 24), draw.weight(10, 24)
    step, offset, weight_step = torch.tensor([0.02]), torch.tensor([-2.5]), draw.floats(10).abs() * 0.01
    q, packed = int8.quantize_rows(x, step, offset, 255), int8.pack(codes)
    scale = step.double() * weight_step
    shift = offset.double() * weight_step * codes.double().sum(1)
    expected = (q.double() * step + offset) @ (codes.double() * weight_step[:, None]).t()
    torch.testing.assert_close(
        int8.linear(q, packed, scale.float(), shift.float()).double(), expected, rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize("codes", [
    torch.zeros(2, 3), torch.zeros(3, dtype=torch.int8), torch.zeros(0, 3, dtype=torch.int8),
    torch.tensor([[64]], dtype=torch.int8), torch.tensor([[-64]], dtype=torch.int8),
    torch.zeros(1, (1 << 17) + 1, dtype=torch.int8),
])  # fmt: skip
def test_weights_that_cannot_be_packed(codes):
    with pytest.raises(ConfigError):
        int8.pack(codes)


def switched(build):
    return native.using(build) if build else native.disabled()


@pytest.mark.parametrize("build", [*native.builds(), None])
def test_bad_input_is_told(build):
    draw = Draw()
    q, packed, pairs = draw.inputs(6, 8), int8.pack(draw.weight(5, 8)), int8.pack(draw.weight(6, 8), 2)
    one, five, six, ptr = torch.ones(1), torch.ones(5), torch.ones(6), torch.tensor([0, 6])
    with switched(build):
        for x in (torch.zeros(3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)):
            with pytest.raises(CloudError, match="float32"):
                int8.quantize_rows(x, one, one, 255)
        with pytest.raises(NotFiniteError, match="NaN"):
            int8.quantize_rows(torch.tensor([[0.0, torch.nan]]), one, one, 255)
        for step, qmax in ((five, 255), (one.double(), 255), (one, 256), (one, 0)):
            with pytest.raises(CloudError, match="qmax"):
                int8.quantize_rows(torch.zeros(2, 3), step, one, qmax)
        for codes in (q[:, :4], q[:, :7], q.int(), q[0]):
            with pytest.raises(CloudError, match="codes"):
                int8.linear(codes, packed, five, five)
        for vectors in ((one, five), (five, five.double()), (torch.ones(10)[::2], five)):
            with pytest.raises(CloudError, match="5 float32"):
                int8.linear(q, packed, *vectors)
        with pytest.raises(CloudError, match="2 x 3"):
            int8.linear(q, pairs, six, six)
        for out in (torch.zeros(6, 4), torch.zeros(6, 5, dtype=torch.float64), torch.zeros(5, 6).t()):
            with pytest.raises(CloudError, match="out must"):
                int8.linear(q, packed, five, five, out=out)
        for offsets in ([0, 5], [0, 3, 2, 6], [0, 0, 6], [1, 6], [0, 7]):
            with pytest.raises(CloudError, match="offsets"):
                int8.linear_pool(q, packed, five, five, 0.2, torch.tensor(offsets))
        with pytest.raises(CloudError, match="int64"):
            int8.linear_pool(q, packed, five, five, 0.2, ptr.int())
        a, codes = int8.edge_parts(q, pairs, six, six, one, one, 255)
        three = torch.ones(3)
        for wrong in (-1, 6, 2**63 - 1, -(2**63)):
            neighbors = torch.zeros(6, 2, dtype=torch.int64)
            neighbors[3, 1] = wrong
            with pytest.raises(CloudError, match="out of range"):
                int8.edge_evaluate(a, codes, neighbors, one, one, three, three, 0.2)
        neighbors = torch.zeros(6, 2, dtype=torch.int64)
        for arguments in (
            (a, codes[:, :3], neighbors),
            (a, codes, neighbors.int()),
            (a, codes, neighbors[:5]),
            (a.double(), codes, neighbors),
        ):
            with pytest.raises(CloudError, match="edge convolution"):
                int8.edge_evaluate(*arguments, one, one, three, three, 0.2)


@pytest.mark.skipif(not PATHS, reason="the compiled kernels are not installed")
def test_paths_are_chosen_and_switched():
    build, best = PATHS[-1]
    with native.using(build):
        assert int8.path() == best and int8.paths()[0] == "portable"
        with int8.using("portable"):
            assert int8.path() == "portable"
        assert int8.path() == best
        with pytest.raises(ConfigError, match="amx"), int8.using("amx"):
            pass
        with native.disabled():
            assert int8.path() is None and int8.paths() == []
    with native.using("portable"):
        assert int8.paths() == ["portable"]
