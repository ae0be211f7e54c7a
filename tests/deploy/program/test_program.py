import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data

from geo3d.cloud import make_batch
from geo3d.compress.quantize import calibrate, quantize
from geo3d.compress.structure import structure
from geo3d.deploy.program.plan import STAGES
from geo3d.deploy.program.program import CACHED, Program, _pieces, stages
from geo3d.encoders import DGCNN, PointNet
from geo3d.errors import CloudError, ConfigError, NotFiniteError
from geo3d.nn.threshold import Threshold
from geo3d.ops import native

BUILDS = [None, *native.builds()]


@pytest.fixture(params=BUILDS, ids=str)
def build(request):
    with native.disabled() if request.param is None else native.using(request.param):
        yield request.param


def trained(encoder, seed=0):
    """An encoder whose norms are as after training, with scales of both signs."""
    generator = torch.Generator().manual_seed(seed)
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.weight.data.normal_(generator=generator)
            norm.bias.data.normal_(generator=generator)
            norm.running_mean.normal_(generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
    return encoder.eval()


def points(count, seed=1, channels=3):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


def clouds():
    return {
        "uniform": make_batch(points(60), num_points=20),
        "ragged": make_batch(points(60), ptr=torch.tensor([0, 1, 4, 37, 60])),
        "one point": make_batch(points(1), num_points=1),
        "one cloud": Data(pos=points(33)),
        "of PyG": Batch.from_data_list([Data(pos=points(9)), Data(pos=points(30))]),
        "by number": Data(pos=points(12), batch=torch.tensor([0] * 5 + [1] * 7)),
    }


def same(found, expected, tolerance=1e-5):
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.is_contiguous()
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def ready(encoder, **options):
    data = make_batch(points(200, seed=3), num_points=50)
    return calibrate(quantize(encoder, **options), [data]).eval()


def masked(encoder):
    for layer in (*(edge.linear for edge in encoder.layers), encoder.embed):
        layer.mask = Threshold(tuple(layer.weight.shape))
        layer.mask.start(layer.weight, fraction=0.5)
        layer.mask.freeze(layer.mask.hard(layer.weight))
    return encoder


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("channels", [(16, 32), (8, 20, 5)])
def test_float(build, dynamic, channels):
    encoder = trained(DGCNN(k=6, channels=channels, embedding=sum(channels), dynamic=dynamic))
    program = Program(encoder)
    assert program.native == (build is not None)
    assert all(choice.form == "float" for choice in program.choices.values())
    for data in clouds().values():
        with torch.no_grad():
            expected = encoder(data)
        same(program(data), expected)
        same(program(data), expected)


@pytest.mark.parametrize("low_rank", [False, True])
@pytest.mark.parametrize("dynamic", [True, False])
def test_structured(build, dynamic, low_rank):
    dense = trained(DGCNN(k=4, channels=(16, 24, 32), embedding=20, dynamic=dynamic))
    encoder = structure(dense, 2.0, min_channels=8, low_rank=low_rank).eval()
    data = clouds()["ragged"]
    with torch.no_grad():
        expected = encoder(data)
    for precision in ("auto", "float"):
        program = Program(encoder, precision=precision, num_points=64)
        same(program(data), expected, 1e-4)
    if build is not None:
        assert set(Program(encoder, num_points=64).choices["embed"].ms) == {"float", "dense"}


@pytest.mark.parametrize("wanted", ["auto", "float"])
@pytest.mark.parametrize("dynamic", [True, False])
def test_rounded_layers_as_floats(build, dynamic, wanted):
    encoder = ready(trained(DGCNN(k=4, channels=(16, 24, 70), embedding=20, dynamic=dynamic)), weights=4, activations=4)
    program = Program(encoder, precision=wanted, num_points=64)
    for data in clouds().values():
        with torch.no_grad():
            point, cloud, _ = encoder(data)
        found = program(data)
        # A value halfway between two codes may be rounded either way.
        assert ((found.point - point).abs() > 1e-4).float().mean() < 0.02
        assert ((found.cloud - cloud).abs() > 1e-4).float().mean() < 0.05


def test_each_rounded_layer_has_the_faster_form():
    if native.name() is None:
        pytest.skip("nothing compiled runs")
    encoder = ready(trained(DGCNN(k=4, channels=(16, 32), embedding=20)))
    choices = Program(encoder, num_points=64).choices
    assert choices["layers.0"] == ("float", {})
    for name in ("layers.1", "embed"):
        assert set(choices[name].ms) == {"float", "int8"}
        assert choices[name].ms[choices[name].form] == min(choices[name].ms.values())
    assert Program(encoder, autotune=False).choices["embed"] == ("int8", {})
    assert Program(encoder, precision="float").choices["embed"] == ("float", {})


def test_masked_weights(build):
    encoder = masked(trained(DGCNN(k=4, channels=(16, 32), embedding=20))).eval()
    data = clouds()["ragged"]
    with torch.no_grad():
        same(Program(encoder)(data), encoder(data))
    assert 0.4 < float((Program(encoder).lowered.embed.matrix == 0).float().mean()) < 0.6


def test_more_channels_than_coordinates(build):
    encoder = trained(DGCNN(k=4, channels=(16, 32), embedding=20, in_channels=6, dynamic=False))
    data = make_batch(points(40), num_points=20, normal=points(40, seed=2))
    with torch.no_grad():
        same(Program(encoder)(data), encoder(data))


def test_many_points_are_worked_on_in_pieces(build):
    encoder = trained(DGCNN(k=2, channels=(8,), embedding=4, dynamic=False))
    sizes = torch.tensor([CACHED // 2, CACHED // 2 + 1, 3, 200])
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    data = make_batch(points(int(ptr[-1])), ptr=ptr)
    with torch.no_grad():
        same(Program(encoder)(data), encoder(data))


def test_results_are_the_users(build):
    program = Program(trained(DGCNN(k=4, channels=(16, 16), embedding=16)))
    first, second = make_batch(points(30), num_points=30), make_batch(points(30, seed=2), num_points=30)
    found = program(first)
    kept = [each.clone() for each in found[:2]]
    program(second)
    assert all(torch.equal(one, other) for one, other in zip(found[:2], kept, strict=True))
    assert not any(each.requires_grad or each.is_inference() for each in found[:2])
    assert not torch.equal(program(second).cloud, kept[1])


def test_later_changes_of_the_encoder_do_not_matter(build):
    encoder = trained(DGCNN(k=4, channels=(16,), embedding=16))
    data, program = clouds()["uniform"], Program(encoder)
    before = program(data).cloud
    nn.init.zeros_(encoder.embed.weight)
    assert torch.equal(program(data).cloud, before)
    assert encoder.embed.weight.requires_grad


def test_its_copy_of_the_encoder_is_not_trained(build):
    encoder = DGCNN(k=4, channels=(8,), embedding=8)
    program = Program(encoder.eval(), num_points=20)
    assert not any(weight.requires_grad for weight in program.encoder.parameters())
    assert all(weight.requires_grad for weight in encoder.parameters())


def test_threads_do_not_change_a_bit():
    encoder = trained(DGCNN(k=4, channels=(16, 24), embedding=40))
    data = clouds()["ragged"]
    found = [Program(encoder, threads=threads)(data) for threads in (1, 2, 3)]
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0][:2], other[:2], strict=True))


def test_builds_may_change_between_calls():
    encoder = trained(DGCNN(k=4, channels=(16, 24), embedding=40))
    data, program = clouds()["uniform"], Program(encoder)
    expected = program(data)
    with native.disabled():
        same(program(data), expected)
    for build in native.builds():
        with native.using(build):
            same(program(data), expected)


def test_other_encoders_are_called():
    encoder = PointNet(width=0.125).eval()
    data, program = make_batch(points(64), num_points=32), Program(encoder)
    assert not program.native
    with torch.no_grad():
        same(program(data), encoder(data))
    assert stages(program, data, repeats=2)["other"] > 0


def test_stages():
    program = Program(trained(DGCNN(k=4, channels=(16, 24), embedding=40)))
    found = stages(program, clouds()["uniform"], repeats=3)
    assert tuple(found) == STAGES
    assert found["other"] >= 0
    if program.native:
        assert all(found[stage] > 0 for stage in STAGES)


def test_bad_clouds(build):
    program = Program(trained(DGCNN(k=4, channels=(16,), embedding=8)))
    broken = points(20)
    broken[3, 1] = float("nan")
    with pytest.raises(NotFiniteError if build else CloudError):
        program(Data(pos=broken))
    if build:
        with pytest.raises(CloudError, match=r"\(M, 3\)"):
            program(Data(pos=torch.zeros(5, 2)))
        with pytest.raises(CloudError, match="offsets"):
            program(Data(pos=points(5), ptr=torch.tensor([0, 9])))
        with pytest.raises(CloudError, match="ptr"):
            program(Data(pos=points(5), ptr=torch.tensor([0, 5], dtype=torch.int32)))
        same(program(Data(pos=points(5))), program(make_batch(points(5), num_points=5)))


def test_bad_options():
    encoder = trained(DGCNN(k=4, channels=(16,), embedding=8))
    with pytest.raises(ConfigError, match="int8"):
        Program(encoder, precision="int8")
    with pytest.raises(ConfigError, match="precision"):
        Program(encoder, precision="int4")
    with pytest.raises(ConfigError, match="threads"):
        Program(encoder, threads=0)


def test_pieces_are_whole_clouds_and_no_larger_than_what_stays_near(monkeypatch):
    monkeypatch.setattr("geo3d.deploy.program.program.CACHED", 10)
    sizes = [8, 4, 4, 12, 2, 8]
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    x = torch.arange(float(ptr[-1]))[:, None]
    found = list(_pieces(x, x, ptr))
    assert [piece.diff().tolist() for *_, piece in found] == [[8], [4, 4], [12], [2, 8]]
    assert torch.equal(torch.cat([rows for rows, *_ in found]), x)
