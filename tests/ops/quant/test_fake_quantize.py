import pytest
import torch
from torch import nn

from geo3d import seeds
from geo3d.errors import CloudError, NotFiniteError
from geo3d.ops import native
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.quant.fake_quantize import fake_quantize, least_squares, quantize

RANGES = {1: (0, 15), 2: (-8, 7), 3: (-8, 7), 4: (0, 15)}  # of four bits in LSQ+'s configurations
LAYOUTS = {"one": (1, 0), "runs of rows": (6, 0), "columns": (None, 1)}


@pytest.fixture(params=[*native.builds(), None], ids=str)
def build(request):
    with native.using(request.param) if request.param else native.disabled():
        yield request.param


def case(rows, columns, layout, configuration, dtype=torch.float32, seed=0):
    """Values of which about a third lie outside, with steps and offsets that differ between groups."""
    generator = seeds.generator(seed, "quantize")
    groups, axis = LAYOUTS[layout]
    qmin, qmax = RANGES[configuration]
    x, grad = torch.randn(2, rows, columns, generator=generator, dtype=dtype)
    step = torch.rand(groups or columns, generator=generator, dtype=dtype) * 0.1 + 0.05
    offset = torch.randn(groups or columns, generator=generator, dtype=dtype) * 0.5 if configuration > 2 else None
    return x, grad, step, offset, qmin, qmax, axis


def per_value(values, x, axis):
    if axis == 1 and len(values) > 1:
        return values.expand_as(x)
    return values.repeat_interleave(x.numel() // len(values)).view_as(x)


def published(x, grad, step, offset, qmin, qmax, axis):
    """Rounded values and gradients as the paper writes them."""
    s = per_value(step, x, axis)
    o = torch.zeros_like(x) if offset is None else per_value(offset, x, axis)
    t = (x - o) / s
    under, over = t <= qmin, t >= qmax
    inside = ~(under | over)
    rounded = torch.where(under, qmin, torch.where(over, qmax, t.round())) * s + o
    of_s = torch.where(inside, t.round() - t, torch.where(under, qmin, qmax).to(x)) * grad
    of_o = torch.where(inside, 0, grad)
    if len(step) == 1:
        sums = [values.sum().view(1) for values in (of_s, of_o)]
    elif axis == 1:
        sums = [values.sum(0) for values in (of_s, of_o)]
    else:
        sums = [torch.stack([run.sum() for run in values.chunk(len(step))]) for values in (of_s, of_o)]
    return rounded, torch.where(inside, grad, 0), *sums


def ours(x, grad, step, offset, qmin, qmax, axis):
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in (x, step, offset)]
    out = fake_quantize(*leaves, qmin, qmax, axis)
    out.backward(grad)
    return out.detach(), *(None if t is None else t.grad for t in leaves)


@pytest.mark.parametrize("configuration", RANGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_the_published_ones(layout, configuration):
    given = case(12, 5, layout, configuration, torch.float64)
    out, of_x, of_step, of_offset = ours(*given)
    expected = published(*given)
    torch.testing.assert_close(out, expected[0], rtol=0, atol=0)
    assert torch.equal(of_x, expected[1]) and 0 < of_x.count_nonzero() < of_x.numel()
    torch.testing.assert_close(of_step, expected[2], rtol=1e-12, atol=1e-12)
    if configuration > 2:
        torch.testing.assert_close(of_offset, expected[3], rtol=1e-12, atol=1e-12)


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad


@pytest.mark.parametrize("configuration", RANGES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_are_those_of_clamping_then_rounding_straight_through(layout, configuration):
    x, grad, step, offset, qmin, qmax, axis = given = case(12, 5, layout, configuration, torch.float64, seed=1)
    leaves = [None if t is None else t.clone().requires_grad_() for t in (x, step, offset)]
    s, o = per_value(leaves[1], x, axis), 0.0 if offset is None else per_value(leaves[2], x, axis)
    (StraightThrough.apply(((leaves[0] - o) / s).clamp(qmin, qmax)) * s + o).backward(grad)
    for found, leaf in zip(ours(*given)[1:], leaves, strict=True):
        if leaf is not None:
            torch.testing.assert_close(found, leaf.grad, rtol=1e-10, atol=1e-10)


def test_values_on_the_border_and_halfway():
    x = torch.tensor([[-3.0, -2.0, -1.5, -0.5, 0.5, 1.0, 1.5, 9.0]], dtype=torch.float64)
    out, of_x, of_step, _ = ours(x, torch.ones_like(x), x.new_ones(1), None, -2, 1, 0)
    assert out.tolist() == [[-2, -2, -2, 0, 0, 1, 1, 1]]  # halfway goes to the even code, clamping comes first
    assert of_x.tolist() == [[0, 0, 1, 1, 1, 0, 0, 0]]  # a value on the border counts as outside
    assert of_step.item() == -2 - 2 - 0.5 + 0.5 - 0.5 + 1 + 1 + 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_on_the_border_get_no_gradient(build, layout):
    """Whole numbers of steps that are powers of two: half of the values lie on a border, exactly."""
    groups, axis = LAYOUTS[layout]
    rows, columns = 12, 37
    generator = seeds.generator(0, "border")
    t = torch.randint(-3, 3, (rows, columns), generator=generator).float()
    grad = torch.randint(1, 9, t.shape, generator=generator).float()
    step = torch.tensor([0.25, 0.5, 2.0])[torch.arange(groups or columns) % 3]
    x = t * per_value(step, t, axis)
    _, of_x, of_step, _ = ours(x, grad, step, None, -2, 1, axis)
    inside = (t > -2) & (t < 1)
    assert torch.equal(of_x, torch.where(inside, grad, 0.0)) and 0.2 < inside.float().mean() < 0.5
    assert torch.equal(of_step, published(x, grad, step, None, -2, 1, axis)[2])


@pytest.mark.parametrize("configuration", [2, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("rows", "columns"), [(6, 1), (12, 3), (30, 17), (600, 40), (36, 700), (0, 4)])
def test_every_build_gives_the_bits_of_the_definition(build, rows, columns, layout, configuration):
    given = case(rows, columns, layout, configuration)
    with native.disabled():
        expected = ours(*given)
        codes = quantize(given[0], *given[2:])
    exact = published(*(t.double() if isinstance(t, torch.Tensor) else t for t in given))
    found = ours(*given)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert torch.equal(quantize(given[0], *given[2:]), codes)
    assert codes.dtype == (torch.uint8 if configuration == 4 else torch.int8)
    for gradient, theirs, reference in zip(found[2:], expected[2:], exact[2:], strict=True):
        if gradient is not None:  # values that lie between two codes can go either way in double
            torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=2e-2)
            torch.testing.assert_close(gradient, theirs, rtol=1e-5, atol=1e-3)


def test_values_that_lie_between_two_codes_go_the_same_way_everywhere(build):
    step = torch.rand(64, generator=seeds.generator(0, "ties")) + 0.1
    halves = torch.arange(-8.5, 9)[:, None] * step
    x = torch.cat([halves, torch.nextafter(halves, halves + 1), torch.nextafter(halves, halves - 1)])
    code = torch.tensor([[round(max(-8, min(7, v))) for v in row] for row in (x / step).tolist()])
    assert torch.equal(quantize(x, step, None, -8, 7, 1).long(), code)
    assert torch.equal(fake_quantize(x, step, None, -8, 7, 1), code.float() * step)


def test_memory_layout_does_not_matter(build):
    x, grad, *rest = case(30, 24, "one", 4)
    expected = ours(x, grad, *rest)
    found = ours(x.t().contiguous().t(), grad.t().contiguous().t(), *rest)
    assert all(torch.equal(a, b) for a, b in zip(found[:2], expected[:2], strict=True))
    assert found[0].is_contiguous() and torch.equal(quantize(x.t().contiguous().t(), *rest), quantize(x, *rest))


def test_zero_codes_give_positive_zero(build):
    x = torch.full((2, 20), -0.1)
    assert not torch.signbit(fake_quantize(x, torch.ones(1), None, -2, 1)).any()


@pytest.mark.parametrize("name", native.builds())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_do_not_depend_on_the_threads(name, layout):
    before, results = torch.get_num_threads(), []
    given = case(1200, 71, layout, 4)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            with native.using(name):
                results.append((*ours(*given), quantize(given[0], *given[2:])))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for result in results for one, other in zip(result, results[0], strict=True))


@pytest.mark.parametrize("layout", ["one", "columns"])
def test_rounding_commutes_with_the_maximum_over_neighbours(build, layout):
    x, _, step, offset, *rest = case(60, 20, layout, 4)
    neighbors = torch.randint(0, 60, (60, 9), generator=seeds.generator(0, "table"))
    after = fake_quantize(gather_max(x, neighbors), step, offset, *rest)
    assert torch.equal(gather_max(fake_quantize(x, step, offset, *rest), neighbors), after)


@pytest.mark.parametrize("build", [*native.builds()[-1:], None], indirect=True, ids=str)
def test_operators_are_sound(build):
    x, grad, step, offset, *rest = case(12, 5, "columns", 4)
    leaves = [t.clone().requires_grad_() for t in (x, step, offset)]
    torch.library.opcheck(torch.ops.geo3d.fake_quantize.default, (*leaves, *rest))
    torch.library.opcheck(torch.ops.geo3d.fake_quantize_backward.default, (grad, x, step, offset, *rest))
    torch.library.opcheck(torch.ops.geo3d.quantize.default, (x, step, offset, *rest))


@pytest.mark.parametrize("layout", ["one", "runs of rows"])
def test_operator_is_sound_without_offset(layout):
    x, _, step, _, *rest = case(12, 5, layout, 2)
    torch.library.opcheck(
        torch.ops.geo3d.fake_quantize.default, (x.requires_grad_(), step.requires_grad_(), None, *rest)
    )


def test_nan_shows_in_values_and_gradients_and_is_refused_as_a_code(build):
    x, grad, step, offset, *rest = case(6, 20, "one", 4)
    x[3, 4] = float("nan")
    out, _, of_step, _ = ours(x, grad, step, offset, *rest)
    assert out.isnan().nonzero().tolist() == [[3, 4]] and of_step.isnan()
    with pytest.raises(NotFiniteError, match="NaN"):
        quantize(x, step, offset, *rest)


def test_infinite_values_have_the_outermost_codes(build):
    x = torch.tensor([[float("inf"), -float("inf"), 3e38]])
    assert quantize(x, torch.ones(1), None, -8, 7).tolist() == [[7, -8, 7]]
    _, _, of_step, _ = ours(x, torch.ones_like(x), torch.ones(1), None, -8, 7, 0)
    assert of_step.tolist() == [6]


@pytest.mark.parametrize(
    ("shape", "groups", "offsets", "qmin", "qmax", "axis"),
    [
        ((6,), 1, 1, 0, 3, 0),
        ((6, 4), 4, 4, 0, 3, 0),  # six rows in four runs
        ((6, 4), 3, 3, 0, 3, 1),
        ((6, 4), 1, 4, 0, 3, 0),
        ((6, 4), 1, 1, 0, 3, 2),
        ((6, 4), 1, 1, 0, 256, 0),
        ((6, 4), 1, 1, -1, 128, 0),
        ((6, 4), 1, 1, 3, 3, 0),
    ],
)
def test_what_does_not_fit_is_refused(shape, groups, offsets, qmin, qmax, axis):
    for function in (fake_quantize, quantize):
        with pytest.raises(CloudError, match="rounding needs x|codes must lie"):
            function(torch.zeros(shape), torch.ones(groups), torch.zeros(offsets), qmin, qmax, axis)


def values_of_many_kinds():
    generator = seeds.generator(0, "kinds")
    normal = torch.randn(4000, generator=generator, dtype=torch.float64)
    uniform = torch.rand(4000, generator=generator, dtype=torch.float64)
    outliers = normal.clone()
    outliers[:2] = torch.tensor([60.0, -25.0])
    return {
        "normal": normal,
        "after LeakyReLU": nn.functional.leaky_relu(normal, 0.2),
        "after ReLU": normal.relu(),
        "far from zero": 5 + uniform,
        "one-sided": -uniform.log(),
        "outliers": outliers,
        "two heaps": torch.where(uniform < 0.3, normal * 0.3 - 4, normal + 2),
    }


def squared_error(x, step, offset, qmax, qmin=0):
    """(K,) for K steps and offsets."""
    rounded = ((x - offset[:, None]) / step[:, None]).clamp(qmin, qmax).round() * step[:, None] + offset[:, None]
    return (rounded - x).square().mean(1)


def grid_search(x, qmax):
    """The least error over ranges whose ends lie anywhere between the values, on ever finer grids."""
    ends = torch.cat([torch.linspace(x.min(), x.max(), 24).to(x), x.quantile(torch.linspace(0, 1, 24).to(x))]).unique()
    starts, stops = ends, ends
    best = torch.tensor(float("inf"))
    for width in (2.0, 0.5, 0.1, 0.02):
        a, b = torch.cartesian_prod(starts, stops).t()
        a, b = a[b > a], b[b > a]
        parts = zip(((b - a) / qmax).split(64), a.split(64), strict=True)
        error = torch.cat([squared_error(x, s, o, qmax) for s, o in parts])
        if error.min() < best:
            best, at = error.min(), error.argmin()
            start, stop = a[at], b[at]
        reach = width * (stop - start) / max(qmax, 3)
        starts, stops = (torch.linspace(end - reach, end + reach, 15).to(x) for end in (start, stop))
    return best


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_first_step_and_offset_are_as_good_as_those_of_a_grid_search(bits):
    for name, x in values_of_many_kinds().items():
        x, qmax = x[:1500], 2**bits - 1
        step, offset = least_squares(x.float()[None], 0, qmax, True)
        found = squared_error(x, step.double(), offset.double(), qmax)
        assert found <= 1.02 * grid_search(x, qmax), name


@pytest.mark.parametrize(("qmin", "qmax"), [(0, 15), (-2, 1), (-128, 127)])
def test_first_step_without_offset_is_as_good_as_that_of_a_grid_search(qmin, qmax):
    for name, x in values_of_many_kinds().items():
        x = x[:1500]
        step, offset = least_squares(x[None], qmin, qmax, False)
        assert offset is None
        candidates = x.abs().max() / qmax * torch.logspace(0.1, -2.5, 2000).to(x)
        nothing = torch.zeros(50, dtype=x.dtype)
        error = torch.cat([squared_error(x, s, nothing[: len(s)], qmax, qmin) for s in candidates.split(50)])
        assert squared_error(x, step, nothing[:1], qmax, qmin) <= 1.02 * error.min(), name


def test_groups_are_searched_independently():
    values = torch.stack([x.float() for x in values_of_many_kinds().values()])
    step, offset = least_squares(values, 0, 15, True)
    for group, x in enumerate(values):
        alone = least_squares(x[None], 0, 15, True)
        torch.testing.assert_close(torch.stack([step[group], offset[group]]), torch.cat(alone), rtol=1e-3, atol=1e-3)


def test_groups_without_a_best_step_have_none():
    values = torch.stack([torch.full((50,), 0.1), torch.zeros(50), torch.linspace(-2, -1, 50)])
    step, offset = least_squares(values, 0, 15, True)
    assert step[:2].tolist() == [0, 0] and step[2] > 0 and torch.equal(offset[:2], values[:2, 0])
    step, _ = least_squares(values, 0, 15, False)
    assert step[0] > 0 and step[1:].tolist() == [0, 0]
