import copy
import math
import pickle

import pytest
import torch

from geo3d import seeds
from geo3d.errors import ConfigError, NotFiniteError
from geo3d.nn.granularity import Columns, RowGroups
from geo3d.nn.quantizer import Quantizer
from geo3d.ops.edge.gather import gather_max
from geo3d.ops.quant.fake_quantize import least_squares

SORTS = {
    "weight": lambda bits: Quantizer.for_weights(bits),
    "weight of groups": lambda bits: Quantizer.for_weights(bits, 6),
    "input": lambda bits: Quantizer.for_activations(bits),
    "input by column": lambda bits: Quantizer.for_activations(bits, 20),
    "configuration 1": lambda bits: Quantizer.configuration(1, bits),
    "configuration 2": lambda bits: Quantizer.configuration(2, bits, 20),
    "configuration 3": lambda bits: Quantizer(bits, signed=True, offset=True, granularity=RowGroups(6)),
}


def values(rows=12, columns=20, dtype=torch.float32, name="values"):
    return torch.randn(rows, columns, generator=seeds.generator(0, name), dtype=dtype)


@pytest.fixture(params=SORTS)
def make(request):
    return SORTS[request.param]


def test_codes_have_the_ranges_of_their_bits():
    for bits in range(2, 9):
        half = 2 ** (bits - 1)
        weight = Quantizer.for_weights(bits)
        assert (weight.qmin, weight.qmax) == ((-63, 63) if bits >= 7 else (-half, half - 1))
        for number, signed in ((1, False), (2, True), (3, True), (4, False)):
            quantizer = Quantizer.configuration(number, bits)
            assert (quantizer.qmin, quantizer.qmax) == ((-half, half - 1) if signed else (0, 2 * half - 1))
            assert (quantizer.offset is not None) == (number >= 3)


@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
def test_codes_and_values_belong_together(make, bits):
    quantizer, x = make(bits), values() + 0.3
    rounded = quantizer(x)
    codes = quantizer.codes(x)
    assert codes.dtype == (torch.int8 if quantizer.qmin < 0 else torch.uint8)
    assert quantizer.qmin <= codes.min() and codes.max() <= quantizer.qmax
    assert torch.equal(quantizer.from_codes(codes), rounded)
    assert torch.equal(quantizer.eval()(x), rounded)
    rounding = (rounded - x).square().mean() / x.var()
    assert rounding < {2: 0.6, 3: 0.3, 4: 0.1, 7: 0.01, 8: 0.01}[bits] if quantizer.qmin < 0 else rounding < 1


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize(("groups", "axis", "shared"), [(1, 0, 240), (6, 0, 40), (1, 1, 20), (20, 1, 1)])
def test_gradients_are_the_published_ones_times_their_scale(groups, axis, shared, scaled):
    granularity = (RowGroups, Columns)[axis](groups)
    quantizer = Quantizer(4, signed=True, offset=True, granularity=granularity, scale_gradient=scaled).double()
    x, grad = values(dtype=torch.float64), values(dtype=torch.float64, name="grad")
    quantizer.initialize(x)
    with torch.no_grad():
        quantizer.log_step.sub_(0.7)  # so that values lie outside
    x.requires_grad_()
    quantizer(x).backward(grad)

    blocks = (groups, 12 // groups, 20) if axis == 0 else (12, groups, 20 // groups)
    dims = (1, 2) if axis == 0 else (0, 2)
    view = (groups, 1, 1) if axis == 0 else (1, groups, 1)
    s, o = (p.detach().view(view) for p in (quantizer.step, quantizer.offset))
    t, g = (x.detach().view(blocks) - o) / s, grad.view(blocks)
    inside = (t > -8) & (t < 7)
    factor = 1 / math.sqrt(shared * 7) if scaled else 1.0
    of_step = (torch.where(inside, t.round() - t, t.clamp(-8, 7)) * g).sum(dims) * factor
    of_offset = (g * ~inside).sum(dims) * factor
    assert 0 < inside.sum() < inside.numel()
    torch.testing.assert_close(x.grad, (g * inside).view_as(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(quantizer.log_step.grad, of_step * quantizer.step.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(quantizer.shift.grad, of_offset, rtol=1e-12, atol=1e-12)


def test_scaling_of_gradients_changes_no_bit_of_the_values():
    x = values()
    plain, scaled = (Quantizer.for_activations(3, scale_gradient=scale) for scale in (False, True))
    assert torch.equal(plain(x), scaled(x))


def test_rounding_commutes_with_the_maximum_over_neighbours():
    x = values(50)
    neighbors = torch.randint(0, 50, (50, 7), generator=seeds.generator(0, "table"))
    for quantizer in (Quantizer.for_activations(3), Quantizer.for_activations(3, 20)):
        assert torch.equal(gather_max(quantizer(x), neighbors), quantizer(gather_max(x, neighbors)))


@pytest.mark.parametrize(("bits", "divisor"), [(2, 2), (4, 8), (6, 32), (7, 63), (8, 63)])
def test_weights_start_from_mean_and_deviation(bits, divisor):
    weight = values(dtype=torch.float64) + 0.4
    for groups in (1, 4):
        quantizer = Quantizer.for_weights(bits, groups).double()
        quantizer.initialize(weight)
        for step, run in zip(quantizer.step.tolist(), weight.chunk(groups), strict=True):
            mean, deviation = run.mean().item(), run.std(unbiased=False).item()
            assert step == pytest.approx(max(abs(mean - 3 * deviation), abs(mean + 3 * deviation)) / divisor)


def test_lsq_starts_from_the_mean_magnitude():
    quantizer = Quantizer.for_weights(4, 3, init="lsq")
    quantizer.initialize(weight := values())
    expected = [2 * run.abs().mean().item() / math.sqrt(7) for run in weight.chunk(3)]
    assert quantizer.step.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("granularity", [Columns(1), Columns(20), RowGroups(6)])
def test_features_start_from_least_squares(granularity):
    x, groups = values(), granularity.groups
    quantizer = Quantizer(3, signed=False, offset=True, granularity=granularity)
    quantizer.initialize(x)
    by_group = x.t() if groups == 20 else x.reshape(groups, -1)
    step, offset = least_squares(by_group.contiguous(), 0, 7, True)
    torch.testing.assert_close(quantizer.step, step)
    torch.testing.assert_close(quantizer.offset, offset)


def test_a_sample_is_enough_and_sees_every_column():
    x = values(4096, 64) + torch.arange(64)  # columns that differ
    quantizer = Quantizer.for_activations(8)
    quantizer.initialize(x)
    assert (quantizer(x) - x).abs().max() < 5 * quantizer.step.item()
    by_column = Quantizer.for_activations(4, 64)
    by_column.initialize(x)
    assert ((by_column(x) - x).square().mean(0) < 0.02).all()  # of variance 1


@pytest.mark.parametrize("constant", [0.0, 3.7, -2.0])
def test_equal_values_have_a_positive_step(make, constant):
    quantizer, x = make(4), torch.full((12, 20), constant)
    rounded = quantizer(x)
    assert (quantizer.step > 0).all() and rounded.isfinite().all()
    if quantizer.offset is not None:
        assert torch.equal(rounded, x)


def test_an_equal_column_takes_a_step_of_the_others_size():
    x = values()
    x[:, 3] = 0
    quantizer = Quantizer.for_activations(4, 20)
    assert torch.equal(quantizer(x)[:, 3], x[:, 3])
    assert 0.01 < quantizer.step[3] < 1


def test_training_moves_step_and_offset_towards_less_error():
    x = values(200)
    quantizer = Quantizer.for_activations(2)
    quantizer(x)
    with torch.no_grad():
        quantizer.log_step.add_(1.0)
        quantizer.shift.sub_(1.0)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    errors = []
    for _ in range(150):
        error = (quantizer(x) - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    best = Quantizer.for_activations(2)
    best(x)
    assert errors[0] > 2 * errors[-1] and errors[-1] < 1.1 * (best(x) - x).square().mean()


def test_a_loaded_quantizer_is_ready(make):
    quantizer, x = make(4), values()
    rounded = quantizer(x)
    fresh = make(4)
    fresh.load_state_dict(quantizer.state_dict())
    assert torch.equal(fresh.eval()(x), rounded)
    fresh.load_state_dict(make(4).state_dict())
    with pytest.raises(ConfigError, match="no step yet"):
        fresh(x)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_alike_and_independent(make, copied):
    quantizer, x = make(4), values()
    rounded = quantizer(x)
    other = copied(quantizer)
    assert torch.equal(other.eval()(x), rounded)
    assert all(parameter.lr_factor == 1.0 for parameter in other.parameters())
    with torch.no_grad():
        other.log_step.add_(1)
    assert torch.equal(quantizer(x), rounded)


def test_a_quantizer_without_a_step_says_so(make):
    quantizer = make(4).eval()
    for use in (quantizer, quantizer.codes, quantizer.from_codes):
        with pytest.raises(ConfigError, match="no step yet: run it once in training mode"):
            use(torch.zeros(12, 20))


def test_the_first_values_alone_decide():
    quantizer = Quantizer.for_activations(4)
    quantizer(values())
    before = quantizer.step.detach().clone()
    quantizer(100 * values())
    assert bool(quantizer.initialized) and torch.equal(quantizer.step, before)


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_at_first(make, strange):
    x = values()
    x[5, 7] = strange
    quantizer = make(4)
    with pytest.raises(NotFiniteError, match="NaN or infinite"):
        quantizer(x)
    assert not quantizer.initialized


def test_compiles_as_one_graph():
    quantizer, x = Quantizer.for_activations(4), values()
    expected = quantizer(x)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    given = x.clone().requires_grad_()
    out = compiled(given)
    out.sum().backward()
    assert torch.equal(out, expected)
    of_step = quantizer.log_step.grad.clone()
    quantizer.zero_grad()
    quantizer(x).sum().backward()
    torch.testing.assert_close(of_step, quantizer.log_step.grad)


def test_works_under_autocast():
    quantizer, x = Quantizer.for_activations(4), values()
    expected = quantizer(x.bfloat16().float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(x.bfloat16()), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 1}, "bits must be"),
        ({"bits": 9}, "bits must be"),
        ({"bits": 4.0}, "bits must be"),
        ({"init": "minmax"}, "init must be"),
        ({"init": "lsq", "offset": True}, "init must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Quantizer(**{"bits": 4, "signed": True, "offset": False, "granularity": Columns(1), **options})


@pytest.mark.parametrize("form", [Columns, RowGroups])
def test_there_is_at_least_one_step(form):
    with pytest.raises(ConfigError, match="groups >= 1; found 0"):
        form(0)


def test_there_are_four_configurations():
    with pytest.raises(ConfigError, match="1, 2, 3 and 4; found 5"):
        Quantizer.configuration(5, 4)


@pytest.mark.parametrize(
    ("granularity", "shape"),
    [(RowGroups(5), (12, 20)), (Columns(5), (12, 20)), (RowGroups(1), (12,)), (Columns(1), (0, 20))],
)
def test_values_of_the_wrong_shape_are_refused(granularity, shape):
    with pytest.raises(ConfigError, match="needs values"):
        Quantizer(4, signed=False, offset=True, granularity=granularity)(torch.zeros(shape))


def test_printing_tells_what_it_is():
    assert "bits=8, codes=[-63, 63], RowGroups(groups=3)" in repr(Quantizer.for_weights(8, 3))
