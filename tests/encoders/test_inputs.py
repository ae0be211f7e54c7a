import pytest
import torch
from torch_geometric.data import Batch, Data

from geo3d.checkpoint import load_encoder, save_encoder
from geo3d.cloud import make_batch
from geo3d.deploy.onnx.check import random_clouds
from geo3d.deploy.onnx.traced import UniformClouds
from geo3d.deploy.program.program import Program
from geo3d.deploy.runtime import Runtime
from geo3d.encoders import DGCNN, PointNet, PointNet2, SegmentationDGCNN
from geo3d.encoders.inputs import channels_of, input_channels, point_inputs
from geo3d.errors import CloudError, ConfigError
from geo3d.seeds import seeded
from geo3d.testing import tiny_batch

SMALL = {
    DGCNN: {"k": 3, "channels": (4, 4), "embedding": 8},
    PointNet: {"embedding": 8, "width": 0.1},
    PointNet2: {"num_samples": (6, 3), "width": 0.1},
    SegmentationDGCNN: {"k": 3, "channels": ((4, 4), (4,)), "embedding": 8},
}


def made(kind, **keywords):
    with seeded(0, "inputs"):
        return kind(**SMALL[kind], **keywords).eval()


@pytest.mark.parametrize("kind", SMALL)
def test_an_encoder_reads_the_fields_that_it_names(kind):
    batch, encoder = tiny_batch(num_points=[9, 14]), made(kind, inputs=("rgb", "normal"))
    assert encoder.in_channels == 9 and encoder.inputs == ("rgb", "normal")
    batch.pos, batch.rgb, batch.normal = (batch[name].float() for name in ("pos", "rgb", "normal"))
    joined = make_batch(batch.pos, ptr=batch.ptr, x=torch.cat([batch.rgb, batch.normal], 1))
    features, plain = encoder(batch), made(kind, in_channels=9)(joined)
    assert torch.equal(features.point, plain.point) and torch.equal(features.cloud, plain.cloud)
    other = batch.clone()
    other.rgb = 1 - batch.rgb
    assert not torch.equal(encoder(other).cloud, features.cloud)
    data = Data(pos=batch.pos[:9], rgb=batch.rgb[:9], normal=batch.normal[:9], colour_of_the_day="red")
    torch.testing.assert_close(encoder(data).cloud, features.cloud[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_read_is_kept_by_a_checkpoint(kind, tmp_path):
    save_encoder(made(kind, inputs=("rgb", "masked")), tmp_path / "encoder")
    encoder = load_encoder(tmp_path / "encoder")
    assert encoder.inputs == ("rgb", "masked") and encoder.in_channels == 7


def test_clouds_without_masks_have_no_masked_point():
    batch = tiny_batch(num_points=[9, 14])
    rows = point_inputs(batch, 7, ("rgb", "masked"))
    assert torch.equal(rows, torch.cat([batch.pos, batch.rgb, torch.zeros(23, 1)], 1))
    batch.masked = (torch.arange(23)[:, None] % 2).to(batch.pos)
    assert torch.equal(point_inputs(batch, 4, ("masked",))[:, 3:], batch.masked)
    only = make_batch(batch.pos, ptr=batch.ptr, x=torch.ones(23, 1))  # which stands for nothing else
    assert not point_inputs(only, 4, ("masked",))[:, 3:].any()


def test_a_compiled_program_reads_the_same_fields():
    batch, encoder = tiny_batch(num_points=[9, 14]), made(DGCNN, inputs=("rgb",))
    batch.pos, batch.rgb = batch.pos.float(), batch.rgb.float()
    torch.testing.assert_close(Program(encoder)(batch).cloud, encoder(batch).cloud, rtol=1e-4, atol=1e-5)
    assert not torch.equal(Program(encoder)(batch.clone().update({"rgb": 1 - batch.rgb})).cloud, encoder(batch).cloud)


def test_the_input_x_has_the_channels_that_are_left():
    batch = tiny_batch(num_points=[9, 14])
    batch.x = torch.rand(23, 2, dtype=batch.pos.dtype)
    rows = point_inputs(batch, 8, ("x", "rgb"))
    assert torch.equal(rows, torch.cat([batch.pos, batch.x, batch.rgb], 1))
    assert [*channels_of(made(DGCNN, inputs=("x", "rgb"), in_channels=8), rows[:, 3:])] == ["x", "rgb"]
    assert torch.equal(channels_of(made(DGCNN, inputs=("x", "rgb"), in_channels=8), rows[:, 3:])["rgb"], batch.rgb)
    with pytest.raises(CloudError, match="x: expected 3 channels; found 2"):
        point_inputs(batch, 9, ("x", "rgb"))


@pytest.mark.parametrize("kind", SMALL)
def test_exported_and_measured_encoders_get_the_fields_that_they_read(kind):
    encoder = made(kind, inputs=("rgb", "masked"))
    batch = random_clouds(encoder, 2, 24)
    assert batch.rgb.shape == (48, 3) and batch.masked.shape == (48, 1) and batch.get("x") is None
    rows = point_inputs(batch, 7, ("rgb", "masked"))
    point, cloud = UniformClouds(encoder)(batch.pos.view(2, 24, 3), rows[:, 3:].view(2, 24, 4))
    features = encoder(batch)
    assert torch.equal(point.flatten(0, 1), features.point) and torch.equal(cloud, features.cloud)


def test_a_runtime_measures_an_encoder_with_inputs():
    assert Runtime(made(DGCNN, inputs=("rgb",)), num_points=40, repeats=2).table


def test_a_missing_field_and_channels_that_do_not_fit_are_refused():
    batch = tiny_batch(num_points=[9, 14])
    del batch.rgb
    with pytest.raises(CloudError, match="reads rgb and normal; the clouds have no 'rgb'; give their points rgb"):
        made(DGCNN, inputs=("rgb", "normal"))(batch)
    with pytest.raises(CloudError, match="reads rgb; the clouds have no 'rgb'"):
        made(DGCNN, inputs=("rgb",))(make_batch(batch.pos, ptr=batch.ptr))
    batch.x = torch.zeros(23, 6)  # which stands for nothing else
    with pytest.raises(CloudError, match="the clouds have no 'rgb'"):
        made(DGCNN, inputs=("rgb", "normal"))(batch)
    del batch.x
    for wrong in (torch.zeros(23, 4), torch.zeros(5, 3), torch.zeros(23)):
        with pytest.raises(CloudError, match=r"rgb: expected \(23, 3\); found"):
            point_inputs(Batch(pos=batch.pos, ptr=batch.ptr, rgb=wrong), 6, ("rgb",))
    batch.rgb = batch.pos.clone()
    batch.rgb[4, 1] = torch.nan
    with pytest.raises(CloudError, match="1 of 23 points have NaN or infinite 'rgb'"):
        made(DGCNN, inputs=("rgb",))(batch)
    with pytest.raises(ConfigError, match="in_channels=5, but the coordinates and rgb have 6 channels; leave"):
        made(DGCNN, inputs=("rgb",), in_channels=5)
    with pytest.raises(ConfigError, match="with x among the inputs, give 3 \\+ 3 \\+ the channels of x; found 6"):
        input_channels(6, ("rgb", "x"))
    assert input_channels(8, ("rgb", "x")) == 8 and input_channels(5, ()) == 5
    with pytest.raises(ConfigError, match="each field once; found rgb, rgb"):
        input_channels(3, ("rgb", "rgb"))
    with pytest.raises(ConfigError, match="x or normal or rgb or masked|x, normal, rgb or masked"):
        made(DGCNN, inputs=("color",))
