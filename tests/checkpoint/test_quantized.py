"""Rounded weights as packed codes: exactly as many bytes as the bits say, and the same values again."""

import copy

import pytest
import torch
from torch import nn

from geo3d.checkpoint.bits import packed_size, unpack_bits
from geo3d.checkpoint.quantized import as_codes, from_codes
from geo3d.compress import calibrate, prune, quantize, rebuild, records, structure
from geo3d.encoders import DGCNN
from geo3d.errors import CheckpointError
from geo3d.heads import Classifier
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch


def make(signs=True):
    with seeded("encoder"):
        encoder = DGCNN(k=4, channels=(16, 16), embedding=32)
        for norm in (encoder.norm, *(layer.norm for layer in encoder.layers)):
            nn.init.normal_(norm.weight) if signs else nn.init.ones_(norm.weight)
    encoder.train()(tiny_batch())
    return encoder


def rounded(encoder, weights=4, **keywords):
    return calibrate(quantize(encoder, weights, 4, **keywords), [tiny_batch()]).eval()


def empty(encoder):
    """Such an encoder of other values."""
    with seeded("empty"):
        return rebuild(DGCNN(k=4, channels=(16, 16), embedding=32), records(encoder)).eval()


@pytest.mark.parametrize("signs", [True, False])
@pytest.mark.parametrize(("weights", "per_channel"), [(8, True), (7, True), (4, False), (3, True), (2, True)])
def test_codes_come_back_as_they_were_and_features_too(weights, per_channel, signs):
    encoder = rounded(make(signs), weights, per_channel=per_channel, first=weights)
    state = as_codes(encoder)
    other = empty(encoder)
    other.load_state_dict(from_codes(other, state))
    again = as_codes(other)
    assert state.keys() == again.keys() and all(torch.equal(state[key], again[key]) for key in state)
    with torch.no_grad():
        batch = tiny_batch(num_points=[20, 32])
        assert torch.equal(encoder(batch).cloud, other(batch).cloud)
    twice = copy.deepcopy(other)
    twice.load_state_dict(from_codes(twice, again))  # nothing drifts from file to file
    for (key, a), b in zip(other.state_dict().items(), twice.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=key)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_codes_are_those_of_the_quantiser_one_after_another(bits):
    encoder = rounded(make(), bits, first=bits)
    state = as_codes(encoder)
    assert not any(key in state for key in ("embed.weight", "layers.0.linear.weight", "layers.1.linear.weight"))
    assert len(state["embed.codes"]) == packed_size(32 * 32, bits) == -(-32 * 32 * bits // 8)
    codes = unpack_bits(state["embed.codes"], bits, (32, 32), signed=True)
    assert torch.equal(codes, encoder.embed.quantizer.codes(encoder.embed.weight))
    edge = encoder.layers[1]
    of_neighbor, of_center = edge.linear.weight.chunk(2, 1)
    sign = torch.where(edge.norm.weight < 0, -1.0, 1.0)[:, None]
    codes = unpack_bits(state["layers.1.linear.codes"], bits, (32, 16), signed=True)
    assert torch.equal(codes, edge.linear.quantizer.codes(torch.cat([of_center * sign, of_neighbor * sign])))
    assert bool((sign < 0).any()) and bool((sign > 0).any())
    assert int(codes.max()) <= min(63, 2 ** (bits - 1) - 1) and codes.unique().numel() > 2
    rest = {key for key in encoder.state_dict() if not key.endswith(("linear.weight", "embed.weight"))}
    assert rest == {key for key in state if not key.endswith(".codes")}
    assert all(torch.equal(state[key], encoder.state_dict()[key]) for key in rest)


def test_a_structured_layer_and_a_head_have_codes_of_their_own_shapes():
    encoder = rounded(structure(make(), min_channels=16))
    assert len(as_codes(encoder)["embed.codes"]) == packed_size(32 * 16, 4)
    assert len(as_codes(encoder)["layers.1.linear.codes"]) == packed_size(2 * 16 * 8, 4)
    head = calibrate(quantize(Classifier(6, 3, hidden=(5,)), 3, 4), [torch.randn(9, 6)]).eval()
    assert {k: len(v) for k, v in as_codes(head).items() if "codes" in k} == {
        "layers.0.codes": 12,
        "layers.4.codes": 15,
    }
    other = rebuild(Classifier(6, 3, hidden=(5,)), records(head)).eval()
    other.load_state_dict(from_codes(other, as_codes(head)))
    x = torch.randn(4, 6)
    assert torch.equal(head(x), other(x))


def test_without_steps_and_without_rounding_weights_stay_as_they_are():
    plain, unset = make(), quantize(make())
    for module in (plain, unset):
        state = as_codes(module)
        assert state.keys() == module.state_dict().keys()
        assert all(torch.equal(from_codes(module, state)[key], state[key]) for key in state)
    assert as_codes(plain)["embed.weight"] is not None


@pytest.mark.parametrize("soft", [True, False])
def test_zeros_are_among_the_codes_and_layers_with_soft_masks_keep_their_weights(soft):
    """A soft mask acts on what is loaded a second time."""
    encoder = prune(make(), 0.5, group="weight", one_shot=not soft)
    encoder = rounded(encoder)
    state = as_codes(encoder)
    for name in ("layers.0.linear", "layers.1.linear", "embed"):
        assert (f"{name}.weight" in state) == soft and (f"{name}.codes" in state) != soft
    other = empty(encoder)
    other.load_state_dict(from_codes(other, state))
    with torch.no_grad():
        assert torch.equal(encoder(tiny_batch()).cloud, other(tiny_batch()).cloud)
    if not soft:
        for name, layer in (("embed", other.embed), ("layers.1.linear", other.layers[1].linear)):
            kept = encoder.get_submodule(name).mask.kept
            assert 0.2 < float(kept.float().mean()) < 0.8 and not bool(layer.weight[~kept].any())


def test_damaged_codes_are_named():
    encoder = rounded(make())
    state = as_codes(encoder)
    for damaged in (state["embed.codes"][:-1], state["embed.codes"].float(), state["embed.codes"].view(2, -1)):
        with pytest.raises(CheckpointError, match="embed.codes: 1024 codes of 4 bits take 512 bytes"):
            from_codes(empty(encoder), state | {"embed.codes": damaged})
    missing = {key: value for key, value in state.items() if key != "embed.codes"}
    with pytest.raises(RuntimeError, match="embed.weight"):
        other = empty(encoder)
        other.load_state_dict(from_codes(other, missing))


def test_layers_whose_weights_are_stored_as_they_are_stand_beside_those_in_codes():
    encoder = rounded(make())
    state = as_codes(encoder)
    del state["layers.0.linear.codes"]
    state["layers.0.linear.weight"] = encoder.layers[0].linear.weight.detach().clone()
    other = empty(encoder)
    other.load_state_dict(from_codes(other, state))
    with torch.no_grad():
        assert torch.equal(encoder(tiny_batch()).cloud, other(tiny_batch()).cloud)
