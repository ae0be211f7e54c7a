"""The order of steps, their records, and encoders built again from them: the same features bit for bit."""

import copy
import inspect
import json

import pytest
import torch
from torch import nn

from geo3d import compress
from geo3d.checkpoint import description
from geo3d.compress import (
    ORDER,
    apply,
    calibrate,
    finalize,
    outputs_left,
    parse_recipe,
    penalty,
    rebuild,
    records,
    with_keywords,
)
from geo3d.encoders import DGCNN, PointNet, PointNet2
from geo3d.errors import CheckpointError, ConfigError
from geo3d.nn.norm import BatchNorm
from geo3d.ops import native
from geo3d.seeds import generator, seeded
from geo3d.testing import tiny_batch

STRUCTURE = {"reduction": 2, "min_channels": 16}
KEYWORDS = {
    "structure": STRUCTURE,
    "prune": {"kept": 0.6, "group": "weight", "one_shot": True},
    "quantize": {"weights": 4, "activations": 4},
    "adapt": {"widths": (1,), "depths": (2,), "ks": (2, 4), "points": (16, 32)},
}
QUANTIZED = {f"w{bits}": {"quantize": {"weights": bits, "activations": bits}} for bits in (8, 4, 3, 2)}
COMMON = {
    "float": {},
    **QUANTIZED,
    "per_tensor": {"quantize": {"weights": 4, "activations": 4, "per_channel": False}},
    "structured": {"structure": STRUCTURE},
    "low_rank": {"structure": STRUCTURE | {"low_rank": True}},
    "fresh": {"structure": STRUCTURE | {"fresh": True}},
    "regularized": {"structure": STRUCTURE | {"regularize": 1.0}},
    "zeros": {"prune": {"kept": 0.5, "group": "weight", "one_shot": True}},
    "soft_zeros": {"prune": {"kept": 0.5, "group": "weight"}},
    "structured_w4": {"structure": STRUCTURE, "quantize": {"weights": 4, "activations": 4}},
    "zeros_w3": {"prune": {"kept": 0.5, "group": "weight", "one_shot": True}, "quantize": {"weights": 3}},
}
CHANNELS = {
    "channels": {"prune": {"kept": 0.6, "one_shot": True}},
    "blocks": {"prune": {"kept": 0.7, "group": "block", "one_shot": True}},
    "outputs": {"prune": {"kept": 0.5, "shrink_output": True, "one_shot": True}},
    "soft": {"prune": {"kept": 0.6}},
    "all": {
        "structure": STRUCTURE | {"low_rank": True},
        "prune": {"kept": 0.6, "shrink_output": True, "one_shot": True},
        "quantize": {"weights": 3, "activations": 4},
    },
}
DGCNNS = {
    "mixed": {"quantize": {"weights": 4, "activations": 4, "layers": {"embed": [2, 3], "layers.0.linear": [5, 8]}}},
    "adaptive": {"adapt": KEYWORDS["adapt"]},
    "adaptive_w4": {"quantize": {"weights": 4}, "adapt": KEYWORDS["adapt"] | {"widths": (0.5, 1)}},
}
ENCODERS = {
    "dgcnn": lambda: DGCNN(k=4, channels=(16, 16), embedding=32),
    "ssg": lambda: PointNet2(
        num_samples=(8, 4), radii=(0.4, 0.8), num_neighbors=(4, 6), channels=((8, 16), (16, 24), (24, 32))
    ),
    "msg": lambda: PointNet2(
        "msg",
        num_samples=(8, 4),
        radii=((0.3, 0.6), (0.4, 0.8)),
        num_neighbors=((4, 6), (4, 6)),
        channels=(((8, 16), (8, 16)), ((16, 24), (16, 24)), (24, 32)),
    ),
    "pointnet": lambda: PointNet(embedding=16, width=0.125),
}
CASES = [
    (name, case)
    for name in ENCODERS
    for case in COMMON | (CHANNELS if name != "pointnet" else {}) | (DGCNNS if name == "dgcnn" else {})
    if name == "dgcnn" or case not in ("w8", "w3", "low_rank", "fresh", "soft_zeros")
]


def make(name):
    with seeded("encoder"):
        encoder = ENCODERS[name]()
        for module in encoder.modules():
            if isinstance(module, BatchNorm):
                nn.init.normal_(module.weight)  # both signs
                nn.init.normal_(module.bias)
    for seed in range(2):
        encoder.train()(tiny_batch(seed=seed))
    return encoder


def compressed(name, recipe):
    encoder = apply(make(name), recipe)
    return calibrate(encoder, [tiny_batch()]) if "quantize" in recipe else encoder


def train(encoder, steps=2):
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        batch = tiny_batch(seed=step)
        features = encoder.train()(batch)
        loss = features.cloud.square().mean() + features.point.square().mean()
        added = compress.added_loss(encoder, batch, features.cloud, generator("train", step))
        (loss if added is None else loss + added).backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()


def again(encoder):
    """The encoder rebuilt from its records and constructor keywords, as a file stores them, and its state dict."""
    steps, keywords = (json.loads(json.dumps(each)) for each in (records(encoder), description(encoder)["keywords"]))
    other = rebuild(type(getattr(encoder, "inner", encoder))(**keywords), steps)
    other.load_state_dict(encoder.state_dict())
    assert records(other) == steps
    return other


def same(a, b):
    batch = tiny_batch(num_points=[30, 32, 25])
    with torch.no_grad():
        for training in (False, True):
            one, two = (copy.deepcopy(each).train(training)(batch) for each in (a, b))
            assert torch.equal(one.cloud, two.cloud) and torch.equal(one.point, two.point), training


@pytest.mark.parametrize(("name", "case"), CASES)
def test_built_again_it_is_the_same_bit_for_bit_before_and_after_training(name, case):
    encoder = compressed(name, (COMMON | CHANNELS | DGCNNS)[case])
    same(encoder, again(encoder))
    train(encoder)
    other = again(encoder)
    same(encoder, other)
    train(encoder, 1)
    train(other, 1)  # and learns the same
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("case", ["structured", "outputs", "all", "zeros_w3", "adaptive_w4"])
def test_parameters_keep_their_order_so_that_a_stored_optimiser_fits(case):
    encoder = compressed("dgcnn", (COMMON | CHANNELS | DGCNNS)[case])
    assert [name for name, _ in encoder.named_parameters()] == [name for name, _ in again(encoder).named_parameters()]
    for (name, one), two in zip(encoder.named_parameters(), again(encoder).parameters(), strict=True):
        assert getattr(one, "lr_factor", None) == getattr(two, "lr_factor", None), name
        assert one.requires_grad == two.requires_grad, name


@pytest.mark.parametrize("earlier", ORDER)
@pytest.mark.parametrize("later", ORDER)
def test_only_the_one_order_is_taken_and_each_step_once(earlier, later):
    encoder = compressed("dgcnn", {earlier: KEYWORDS[earlier]})
    step = getattr(compress, later)
    if ORDER.index(earlier) < ORDER.index(later):
        assert [record["step"] for record in records(step(encoder, **KEYWORDS[later]))] == [earlier, later]
        return
    with pytest.raises(ConfigError, match=f"{later}: .* already been through {earlier}; the order is") as raised:
        step(encoder, **KEYWORDS[later])
    assert "\n" not in str(raised.value)


def test_a_recipe_is_done_in_order_however_it_is_written():
    backwards = dict(reversed(KEYWORDS.items()))
    assert [record["step"] for record in records(apply(make("dgcnn"), backwards))] == list(ORDER)
    assert [r["step"] for r in records(apply(make("dgcnn"), backwards, only=("quantize", "structure")))] == [
        "structure",
        "quantize",
    ]
    assert parse_recipe({"quantize": None, "encoder": {"k": 3}}) == {"encoder": {"k": 3}, "quantize": {}}
    assert records(apply(make("dgcnn"), {})) == [] and records(nn.Linear(2, 2)) == []


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"quantise": {}}, "recipe.quantise: no such step; a recipe has encoder, structure, prune, quantize, adapt"),
        ({"quantize": {"weight": 4}}, "recipe.quantize.weight: quantize takes no 'weight'; it takes weights, "),
        ({"structure": {"moments": {}}}, "structure takes no 'moments'"),
        ({"quantize": 4}, "recipe.quantize: expected keywords .* found 4"),
        ({"quantize": ""}, "recipe.quantize: expected keywords .* found ''"),
        ({"quantize": {"weights": 9}}, "recipe.quantize.weights: 9 is not an int from 2 to 8"),
        ({"adapt": {"points": [0]}}, r"recipe.adapt.points: \[0\] is not a list of int from 1"),
        ({"encoder": 4}, "recipe.encoder: expected keywords .* found 4"),
    ],
)
def test_mistakes_in_a_recipe_are_named(recipe, message):
    with pytest.raises(ConfigError, match=message) as raised:
        parse_recipe(recipe)
    assert "\n" not in str(raised.value)


def test_every_step_can_be_written_down():
    for name in ORDER:
        for key, parameter in list(inspect.signature(getattr(compress, name)).parameters.items())[1:]:
            assert parameter.default is not parameter.empty, (name, key)
            json.dumps(parameter.default)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("quantize", "must be a list"),
        ([4], "must be a list"),
        ([{"step": "distil"}], "names a compression step 'distil'; known: structure, prune, quantize, adapt"),
        ([{}], "names a compression step None"),
        ([{"step": "quantize"}], "record of the step quantize does not fit"),
        ([{"step": "quantize", "bits": {"layers.7.linear": [4, 4]}, "per_channel": True}], "layers.7.linear"),
        ([{"step": "quantize", "bits": {"norm": [4, 4]}, "per_channel": True}], "quantize does not fit"),
        ([{"step": "quantize", "bits": {"embed": [4]}, "per_channel": True}], "quantize does not fit"),
        ([{"step": "quantize", "bits": {"embed": [99, 4]}, "per_channel": True}], "2 to 8"),
        (
            [{"step": "structure", "ranks": {"embed": 999}, "low_rank": False, "permute": True, "regularize": 0}],
            "rank must be from 1",
        ),
        ([{"step": "adapt", "widths": [1], "depths": [9], "ks": [4], "points": [32]}], "adapt does not fit"),
    ],
)
def test_records_that_do_not_fit_are_refused_in_one_line(steps, message):
    with pytest.raises(CheckpointError, match=message) as raised:
        rebuild(make("dgcnn"), steps)
    assert "\n" not in str(raised.value)


def test_encoder_keywords_that_no_weight_depends_on():
    encoder = make("dgcnn").eval()
    other = with_keywords(encoder, {"encoder": {"k": 2, "dynamic": False}})
    assert (other.k, other.dynamic, other.training) == (2, False, False) and encoder.k == 4
    assert all(torch.equal(other.state_dict()[key], value) for key, value in encoder.state_dict().items())
    assert with_keywords(encoder, {"quantize": {}}) is encoder
    with pytest.raises(ConfigError, match="recipe.encoder.kk: DGCNN takes k, channels"):
        with_keywords(encoder, {"encoder": {"kk": 2}})
    with pytest.raises(ConfigError, match="recipe.encoder: .*'many' is not an int"):
        with_keywords(encoder, {"encoder": {"k": "many"}})
    with pytest.raises(ConfigError, match="embedding would change the weights' shapes"):
        with_keywords(encoder, {"encoder": {"embedding": 64}})
    small = compressed("dgcnn", CHANNELS["all"])
    before = small.eval()(tiny_batch()).cloud
    kept = with_keywords(small, {"encoder": {"k": 3}})
    assert kept.k == 3 and records(kept) == records(small)
    assert torch.equal(with_keywords(kept, {"encoder": {"k": 4}})(tiny_batch()).cloud, before)
    state = torch.get_rng_state()
    with_keywords(encoder, {"encoder": {"k": 2}})
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_left_of_the_outputs():
    assert outputs_left(make("dgcnn")) is None and outputs_left(compressed("dgcnn", CHANNELS["channels"])) is None
    for name in ("dgcnn", "ssg"):
        plain = make(name).eval()
        small = compressed(name, CHANNELS["outputs"]).eval()
        left = outputs_left(small)
        assert len(left) == small.cloud_channels < plain.cloud_channels
        few = records(small)[0]["outputs"]
        expected = few if name == "ssg" else few + [32 + channel for channel in few]
        assert left.tolist() == expected
    # only outputs are removed, so the remaining channels keep their values
    only = compress.prune(make("ssg"), 0.9, layers=["last.linears.1"], shrink_output=True, one_shot=True)
    batch = tiny_batch()
    torch.testing.assert_close(only.eval()(batch).cloud, make("ssg").eval()(batch).cloud[:, outputs_left(only)])


def test_penalties_are_summed_and_gone_when_finished():
    assert penalty(make("dgcnn")) is None
    both = {"structure": STRUCTURE | {"low_rank": True}, "prune": {"kept": 0.6, "shrink_output": True}}
    soft = apply(make("dgcnn"), both)
    fraction = soft.sparsity.fraction()
    torch.testing.assert_close(penalty(soft), (fraction / 0.6 - 1) ** 2)
    regular = apply(make("dgcnn"), {"structure": STRUCTURE | {"regularize": 0.5}})
    each = [module.penalty() for module in regular.modules() if hasattr(module, "penalty")]
    assert len(each) == 2  # one for each layer of 16 channels and more
    torch.testing.assert_close(penalty(regular), each[0] + each[1])
    for encoder in (soft, regular):
        assert penalty(finalize(encoder)) is None
        done = finalize(finalize(encoder))
        same(done, again(done))
        assert [r["step"] for r in records(done)] == [r["step"] for r in records(encoder)]


@pytest.mark.parametrize("name", ENCODERS)
def test_what_enters_the_layers_is_seen_with_and_without_kernels(name):
    encoder = make(name)
    seen = compress.input_moments(encoder, [tiny_batch()])
    with native.disabled():
        plain = compress.input_moments(encoder, [tiny_batch()])
    assert seen.keys() == plain.keys()
    for path, moments in seen.items():
        torch.testing.assert_close(moments, plain[path], rtol=1e-3, atol=1e-4, msg=path)


def test_added_loss_is_the_penalty_and_what_settings_add():
    batch, draw = tiny_batch(), lambda: generator("settings", 1)
    assert compress.added_loss(make("dgcnn"), batch, torch.empty(0), draw()) is None
    adaptive = compressed("dgcnn", {"adapt": KEYWORDS["adapt"] | {"widths": (0.5, 1)}}).train()
    cloud = copy.deepcopy(adaptive)(batch).cloud
    alone = copy.deepcopy(adaptive).extra_loss(batch, cloud, draw(), None)
    torch.testing.assert_close(compress.added_loss(copy.deepcopy(adaptive), batch, cloud, draw()), alone)
    head = nn.Linear(adaptive.cloud_channels, 3)
    with_head = copy.deepcopy(adaptive).extra_loss(batch, cloud, draw(), head)
    torch.testing.assert_close(compress.added_loss(adaptive, batch, cloud, draw(), head), with_head)
    assert float(alone.detach()) > 0 and not torch.equal(alone, with_head)
