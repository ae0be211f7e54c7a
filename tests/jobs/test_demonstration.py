import json

from geo3d import load_encoder
from geo3d.data.shapes import CLASSES
from geo3d.jobs import demonstration


def test_the_demonstration_goes_the_whole_way(tmp_path, monkeypatch, capsys):
    sheets, draw = [], demonstration.picture_sheet
    monkeypatch.setattr(demonstration, "picture_sheet", lambda rows, path: (sheets.append(rows), draw(rows, path)))
    metrics = demonstration.demo(tmp_path, epochs=1, size=256, num_points=24, progress=False)

    (rows,) = sheets
    assert list(rows) == list(CLASSES)
    assert all([tuple(cloud.shape) for cloud in row] == [(2048, 6)] * 8 for row in rows.values())
    assert json.loads((tmp_path / "metrics.json").read_text())["probe"] == metrics["probe"]
    assert metrics["pretrain"]["epochs"] == 1 and metrics["pretrain"]["clouds"] > 128
    figures = metrics["probe"]["figures"]["all labels"]
    assert 0 < figures["floor"]["mean"] < 1 and 0 < figures["result"]["mean"] < 1
    assert load_encoder(tmp_path / "pretrain" / "encoder").k == 12
    for picture in ("shapes.png", "pretrain/training.png", "probe/probe.png"):
        assert (tmp_path / picture).stat().st_size > 1000, picture
    assert f"look at {tmp_path}/shapes.png" in capsys.readouterr().out
