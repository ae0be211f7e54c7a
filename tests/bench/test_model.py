"""Checkpoints side by side; nothing here depends on how long anything takes."""

from functools import partial

import pytest
import torch
from speed.published import FULL, SAME, Rivals

from geo3d import compress
from geo3d.bench import engines as engines_module
from geo3d.bench.accuracy import Clouds, Split, accuracies, correct
from geo3d.bench.engines import ENGINES, CannotRunError, Own, check_engines, start
from geo3d.bench.exports import OTHER, Form
from geo3d.bench.inputs import randomized, surfaces
from geo3d.bench.model import load, memory_case, peak_mb, sizes, timings
from geo3d.bench.model_table import markdown, tables
from geo3d.checkpoint import save_encoder, save_head
from geo3d.cloud import collate
from geo3d.data import Shapes
from geo3d.encoders import DGCNN, PointNet2
from geo3d.errors import CheckpointError, CloudError, ConfigError
from geo3d.heads import Classifier
from geo3d.seeds import seeded

N, CLASSES = 48, ["chair", "car", "bottle"]


def tiny(**keywords):
    with seeded(0, "tiny"):
        return randomized(DGCNN(**({"k": 4, "channels": (8, 16), "embedding": 16} | keywords))).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of every kind, one with a head."""
    place = tmp_path_factory.mktemp("models")
    with seeded(1, "head"):
        head = Classifier(32, 3, hidden=(8,)).eval()
    rounded = compress.quantize(tiny(), 4, 4)
    compress.calibrate(rounded, [surfaces(2, N)])
    wide = tiny(channels=(64, 64))
    forms = {
        "float": tiny(),
        "rounded": rounded.eval(),
        "narrow": compress.finalize(compress.structure(wide, 2.0, min_channels=64)),
        "speeds": compress.adapt(tiny(), widths=(0.5, 1), depths=(2,), ks=(2, 4), points=(24, N)),
        "points": PointNet2(num_samples=(16, 4), num_neighbors=(8, 4), width=0.125).eval(),
    }
    for name, encoder in forms.items():
        save_encoder(encoder, place / name / "encoder", input={"num_points": N})
    save_head(head, place / "float" / "encoder")
    return place


def some_clouds(draws=2, size=12):
    """Batches of 5 and their labels; the draws differ in their points."""

    def split(seed):
        data = Shapes(classes=CLASSES, size=size, num_points=N, seed=seed)
        clouds = [data[i] for i in range(size)]
        return Split([collate(clouds[i : i + 5]) for i in range(0, size, 5)], data.labels)

    return Clouds([split(i) for i in range(draws)], split(9), len(CLASSES))


def test_names_and_kinds(folder):
    found = load([folder / name for name in ("float", "rounded/encoder", "narrow", "points")])
    tiny = "DGCNN, channels 8-16, embedding 16, k = 4"
    assert [each.name for each in found] == [
        f"{tiny}, float", f"{tiny}, W4A4", "DGCNN, channels 64-64, embedding 16, k = 4, structured",
        "PointNet++ SSG, 0.125 of the width, float",
    ]  # fmt: skip
    assert [each.kind for each in found] == ["float", "quantised", "structured", "float"]
    again = load([folder / "float", folder / "float" / "encoder", folder / "points"])
    assert [each.name for each in again][:2] == [f"{tiny}, float, no. 1", f"{tiny}, float, no. 2"]
    named = load([folder / "float", folder / "speeds"], 2, ["a", "b"])
    assert [each.name for each in named] == ["a", "b, w1-d2-k4-n48", "b, w0.5-d2-k2-n24"]
    assert not any(str(folder) in each.name for each in [*found, *again])
    with pytest.raises(CheckpointError, match="no such folder"):
        load([folder / "nowhere"])


def test_settings_of_an_adaptive_encoder_are_spread_from_the_largest_to_the_smallest(folder):
    found = load([folder / "speeds"], settings=3)
    settings = found[0].whole.settings
    assert [each.setting for each in found] == [settings[0], settings[round((len(settings) - 1) / 2)], settings[-1]]
    assert {each.kind for each in found} == {"adaptive"}
    assert found[-1].name == "DGCNN, channels 8-8, embedding 8, k = 2, 24 points, adaptive"
    assert len(load([folder / "speeds"], settings=99)) == len(settings)
    batch = surfaces(2, N)
    for each in found:  # what is timed computes what is scored
        whole, part = each.features([batch]), each.form(each.before(batch)).cloud
        torch.testing.assert_close(whole[whole != 0].sort().values, part[part != 0].sort().values)


@pytest.mark.parametrize("name", ["float", "rounded", "narrow", "points"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_encoders_features(engine, name, folder, tmp_path):
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip("onnx")
        pytest.importorskip(engine)
    (contender,) = load([folder / name])
    batch = surfaces(2, N)
    found = start(engine, contender.whole, batch, 1, tmp_path)()
    expected = contender.features([batch])
    assert found.shape == expected.shape
    # Sums in another order may put a value that lies between two codes on the other one: then it is a code away.
    assert float((found - expected).norm() / expected.norm()) < (OTHER if name == "rounded" else 1e-4)


def test_an_engine_that_is_missing_or_fails_says_so(folder, tmp_path, monkeypatch):
    (contender,) = load([folder / "float"])
    run = partial(start, "openvino", contender.whole, surfaces(1, N), 1, tmp_path)
    monkeypatch.setattr(engines_module, "installed", lambda package: False)
    with pytest.raises(CannotRunError, match="^openvino is not installed$"):
        run()
    monkeypatch.setattr(engines_module, "installed", lambda package: True)
    monkeypatch.setattr(engines_module, "Exported", lambda *given: 1 / 0)
    with pytest.raises(CannotRunError, match="^openvino cannot run it: division by zero$"):
        run()
    with pytest.raises(ConfigError, match="no engine 'tensorrt'; there are geo3d, torch, onnxruntime, openvino"):
        check_engines(["geo3d", "tensorrt"])
    with pytest.raises(ConfigError, match="each once"):
        check_engines(["torch", "torch"])


def test_what_cannot_run_is_noted_and_the_others_are_timed(folder, monkeypatch):
    monkeypatch.setattr(engines_module, "installed", lambda package: False)
    contenders = load([folder / "float", folder / "rounded"])
    before = torch.get_num_threads()
    rows, eager, spent, notes = timings(
        contenders, surfaces(1, N), engines=("geo3d", "torch", "openvino"), threads=(1,), repeats=3, rivals=Rivals
    )
    assert torch.get_num_threads() == before
    names = [each.name for each in contenders]
    assert notes == [f"{name}: openvino is not installed" for name in names]
    for name in names:
        assert [row["engine"] for row in rows[name]] == ["geo3d", "torch"]
        assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows[name])
        assert all(0 < row["over_published"][SAME] < row["over_published"][FULL] for row in rows[name])
        assert all(row["difference"] < 5e-3 for row in rows[name])
        assert sum(spent[name].values()) == pytest.approx(rows[name][0]["p50_ms"])
    assert all(row["ratio"] == 1 for row in rows[names[0]])
    assert [(row["name"], row["full"], row["threads"]) for row in eager] == [
        ("DGCNN, channels 8-16, embedding 16, k = 4, 48 points", False, 1),
        ("DGCNN, channels 64-64-128-256, embedding 1024, k = 20, 48 points", True, 1),
    ]  # both encoders have the same widths
    rows, eager, _, _ = timings(contenders[:1], surfaces(1, N), engines=("geo3d",), threads=(1, 2), repeats=1)
    assert [row["threads"] for row in rows[names[0]]] == [1, 2] and rows[names[0]][0]["over_published"] == {}
    assert not eager


@pytest.mark.parametrize("name", ["float", "points"])
def test_stages_add_up(name, folder):
    (contender,) = load([folder / name])
    found = Own(contender.whole, surfaces(1, N), contender.before).stages(5.0, 1)
    assert list(found) == ["knn", "products", "gather", "pooling", "other"]
    assert sum(found.values()) == pytest.approx(5.0) and min(found.values()) >= 0


def test_accuracy_is_that_of_the_head_averaged_over_draws(folder):
    contenders, clouds = load([folder / "float", folder / "points"]), some_clouds()
    with torch.no_grad():
        from geo3d.checkpoint import load_head

        head = load_head(folder / "float")
        hits = [
            torch.cat([head(contenders[0].whole(batch).cloud).argmax(1) for batch in test.batches]) == test.y
            for test in clouds.tests
        ]
    by_head, by_probe = accuracies(contenders, clouds, 0)
    per_cloud = torch.stack(hits).double().mean(0)
    assert (by_head["by"], by_probe["by"]) == ("head", "linear probe")
    assert by_head["mean"] == pytest.approx(float(per_cloud.mean())) and by_head["gain"] == 0
    right, _ = correct(contenders[1], clouds)
    difference = right.double() - per_cloud
    assert by_probe["gain"] == pytest.approx(float(difference.mean()))
    assert by_probe["standard_error"] == pytest.approx(float(difference.std()) / 12**0.5)
    assert (by_head["clouds"], by_head["draws"]) == (12, 2)


def test_the_probe_learns_what_can_be_told_apart(folder):
    (contender,) = load([folder / "points"])
    clouds = some_clouds(draws=1, size=30)
    right, _ = correct(contender, clouds._replace(train=clouds.tests[0]))
    assert float(right.mean()) > 0.6


def test_a_head_for_other_classes_is_refused(folder):
    (contender,) = load([folder / "float"])
    with pytest.raises(ConfigError, match="its head knows 3 classes, the data has 5"):
        correct(contender, some_clouds(1)._replace(classes=5))


def test_a_probe_needs_two_classes(folder):
    (contender,) = load([folder / "points"])
    clouds = some_clouds(1)
    with pytest.raises(CloudError, match="PointNet.*, training split: all 12 rows are of class 1"):
        correct(contender, clouds._replace(train=clouds.train._replace(y=torch.ones(12, dtype=torch.long))))


def test_bytes_lie_as_they_are_found_and_the_head_is_not_among_them(folder):
    contenders = load([folder / "float", folder / "rounded"])
    plain, rounded = sizes(contenders, N, 0)
    files = [folder / "float" / "encoder" / name for name in ("encoder.safetensors", "encoder.json")]
    assert plain["bytes_on_disk"] == sum(file.stat().st_size for file in files)
    assert plain["score"] == 2 > rounded["score"] and rounded["bytes_by_bits"] < plain["bytes_by_bits"]
    assert plain["macs"] == rounded["macs"]


def test_peak_memory_is_that_of_a_process_of_its_own(folder):
    contender = load([folder / "speeds"], settings=2)[-1]
    batch = surfaces(2, N)
    case = memory_case(str(contender.path), contender.setting, "torch", batch.pos.numpy(), 2, 1)
    torch.testing.assert_close(case.calls["torch"](), contender.form(contender.before(batch)).cloud)
    assert 0 <= peak_mb(contender, "torch", batch, 1) < 100


def test_memory_is_looked_at_in_the_form_that_was_timed(folder, monkeypatch):
    contender = load([folder / "rounded"])[0]
    form, asked = Form("inside", "float"), []
    monkeypatch.setattr("geo3d.bench.model.start", lambda *given, **keywords: asked.append(keywords["form"]))
    memory_case(str(contender.path), None, "onnxruntime", surfaces(1, N).pos.numpy(), 1, 1, form)
    assert asked == [form]


def test_tables_name_every_model_engine_and_note():
    timed = {"threads": 1, "p50_ms": 2.0, "p95_ms": 3.0, "ratio": 1.5, "over_published": {SAME: 3.0, FULL: 12.0}}
    graph, search = timed | {"form": "the compiled runtime"}, timed | {"form": "neighbors in the graph"}
    row = {
        "name": "a", "kind": "float", "parameters": 1234, "macs": 2e6, "distance_macs": 1e6, "bytes_on_disk": 5000,
        "bytes_by_bits": 4900, "score": 2.0, "peak_mb": {"torch": 7.0}, "stages_ms": {"knn": 0.5, "other": 1.5},
        "accuracy": {"mean": 0.9, "gain": 0.01, "standard_error": 0.004, "by": "head", "clouds": 5, "draws": 2},
        "timings": [graph | {"engine": "geo3d", "difference": 0.0}, search | {"engine": "openvino", "difference": 0.5}],
    }  # fmt: skip
    other = row | {"name": "b", "timings": [search | {"engine": "openvino", "difference": 0.0, "form": "given"}]}
    record = {
        "rows": [row, other], "reference": "a", "num_points": N, "machine": {"processor": "p"},
        "notes": ["b: not installed"],
        "published": [{"name": "whole", "engine": "torch", "threads": 1, "p50_ms": 24.0, "p95_ms": 25.0}],
    }  # fmt: skip
    text = tables(record)
    for words in (
        "90.00 (head)", "+1.00 +- 0.40", "1,234", "2.000", "2.00 / 3.00 (1.50x)", "openvino, 1 thread", "12.0x",
        "published, same widths, 1 thread", "published, full, 1 thread", "- whole: 24.0 / 25.0 on 1 thread",
        "- b: not installed", "- geo3d: the compiled runtime\n",
        "- openvino: neighbors in the graph (a on 1 thread)\n- openvino: given (b on 1 thread)",
        "- a: openvino on 1 thread gives features that differ by 5.0e-01",
    ):  # fmt: skip
        assert words in text, words
    (line,) = (line for line in text.splitlines() if line.startswith("| a") and "12.0x" in line)
    assert [cell.strip() for cell in line.split("|")[2:4]] == ["3.0x", "12.0x"]
    bare = [each | {"accuracy": None, "stages_ms": None, "peak_mb": {}} for each in (row, other)]
    without = tables(record | {"rows": bare, "published": []})
    assert "there is no accuracy" in without and "published" not in without


def test_columns_are_aligned():
    lines = markdown([["model", "ms"], ["a", "10.5"]])
    assert len({len(line) for line in lines}) == 1 and lines[1] == "| :---- | ---: |"
