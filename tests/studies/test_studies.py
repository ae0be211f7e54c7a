"""``python -m studies``: whether every study runs, is continued and prints, at tiny sizes."""

import contextlib
import re
from types import SimpleNamespace

import numpy as np
import pytest

import studies.__main__
import studies.hand_times
import studies.rivals
import studies.runs
from geo3d.checkpoint import save_encoder
from geo3d.cli.__main__ import main as geo3d_main
from geo3d.encoders import PointNet2
from geo3d.errors import Geo3dError
from studies.__main__ import STUDIES, main
from studies.runs import remembered, spread

SMALL = ["--", "trainer=cpu", "data.num_points=64", "data.batch_size=2", "encoder.num_samples=[16,4]",
         "encoder.radii=[0.2,0.4]", "encoder.num_neighbors=[8,8]", "encoder.channels=[[8],[16]]"]  # fmt: skip


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs the commands of a study here; another process takes ten seconds to start."""

    def run(line, stdout, stderr):
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            return SimpleNamespace(returncode=geo3d_main(line[3:]))

    monkeypatch.setattr(studies.runs, "subprocess", SimpleNamespace(run=run))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["part"], "part: no such study; did you mean 'parts'?"),
        (["parts", "seed=3"], "seed: studies parts takes no 'seed'; did you mean 'seeds'?"),
        (["objects"], "root"),
        (["poses", "--", "data.cut=0.3"], "data.cut=0.3: studies poses has no use for it; after -- it takes words"),
        (
            ["rivals", "checkpoint=x", "--", "data.num_points=64"],
            "studies rivals has no use for it; after -- it takes words",
        ),
        (["stream", "network=x", "--", "trainer=cpu"], "trainer=cpu: studies stream has no use for it; it runs no"),
        (["rooms", "networks=[nothing.t7]"], "nothing.t7"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Geo3dError) as raised:
        main(words)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_parts_are_trained_once_and_compared(tmp_path, capsys):
    words = ["parts", "seeds=[0]", "fractions=[0.5]", "steps=1", "tuning=1", f"out={tmp_path}", *SMALL, "data.size=68"]
    main(words)
    first = capsys.readouterr().out
    assert first.count("geo3d pretrain") == 1 and first.count("geo3d finetune") == 2
    scratch, tuned, apart = map(float, first.splitlines()[-1].strip("| ").split(" | ")[2:])
    assert tuned - scratch == pytest.approx(apart, abs=0.11)
    main(words)
    again = capsys.readouterr().out
    assert "geo3d" not in again and again.splitlines()[-1] == first.splitlines()[-1]


def write_scan(path, rng):
    """A table with two blocks of 4 cm side by side."""
    xyz, instance = rng.uniform(0, 0.04, (240, 3)).astype(np.float32), np.repeat([1, 2, 3], 80).astype(np.int16)
    xyz[:80] *= (10, 10, 0)
    xyz[160:, 0] += 0.04
    np.savez(path, xyz=xyz, rgb=rng.integers(0, 255, (240, 3), dtype=np.uint8), instance=instance)


@pytest.mark.usefixtures("in_this_process")
def test_objects_are_probed_beside_floor_and_nearness(tmp_path, capsys):
    root = tmp_path / "scans"
    root.mkdir()
    for number in range(5):
        write_scan(root / f"scene_{number}.npz", np.random.default_rng(number))
    chosen = "chosen=[completion,point_info_nce:both]"
    main(["objects", f"root={root}", "seeds=[0]", "steps=1", chosen, f"out={tmp_path / 'runs'}", *SMALL])
    lines = capsys.readouterr().out.splitlines()[-6:]
    assert lines[0].startswith("Objects AUC of nearness alone: ") and 0 <= float(lines[0].split()[5].rstrip(".")) <= 100
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[-2:]]
    assert [row[:2] for row in rows] == [["`completion`", "mosd"], ["`point_info_nce`", "both"]]
    assert all(len(row) == 8 and all(0 <= float(each) <= 100 for each in row[2].split(" / ")) for row in rows)
    clouds = sorted(path.name for path in (tmp_path / "runs" / "clouds").iterdir())
    assert clouds == [f"{kind}-00{number}.npz" for kind in ("room", "scan") for number in range(4)]


@pytest.mark.usefixtures("in_this_process")
def test_hand_poses_are_compared_with_scratch_and_the_mean_pose(tmp_path, capsys):
    words = ["poses", "seeds=[0]", "labels=[4]", "steps=1", "tuning=1", "unlabelled=6", "tests=3", f"out={tmp_path}"]
    main([*words, *SMALL])
    first = capsys.readouterr().out
    assert first.count("geo3d pretrain") == 2 and first.count("geo3d finetune") == 3
    mean, *rows = [line.strip("| ").split(" | ") for line in first.splitlines()[-4:]]
    assert mean[0] == "the mean pose" and all(20 < float(error) < 300 for error in mean[2].split(", "))
    assert [row[1] for row in rows] == ["shape", "view", "pose"]
    for row in rows:
        scratch, *pretrained = map(float, row[2:5])
        for error, gain in zip(pretrained, row[5:], strict=True):
            assert 100 * (1 - error / scratch) == pytest.approx(float(gain.removesuffix(" %")), abs=0.3)
    main([*words, *SMALL])
    again = capsys.readouterr().out
    assert "geo3d" not in again and again.splitlines()[-3:] == first.splitlines()[-3:]
    with pytest.raises(Geo3dError, match="made with trainer.max_steps=1 instead of trainer.max_steps=2; give another"):
        main([word.replace("steps=1", "steps=2") for word in words] + SMALL)


def test_joints_of_generated_hands_are_compared_with_real_ones(tmp_path, capsys):
    uvd = np.random.default_rng(0).uniform((100, 100, 600), (200, 200, 700), (2450, 14, 3)).astype(np.float32)
    np.savez(tmp_path / "nyu.npz", groundtruth=uvd)
    main(["hands", f"truth={tmp_path / 'nyu.npz'}", "number=5", f"picture={tmp_path / 'hands.png'}"])
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 19 and all(float(cell) > 0 for row in rows for cell in row.strip("| ").split(" | ")[1:])
    assert (tmp_path / "hands.png").stat().st_size > 10_000


def test_a_folder_belongs_to_one_choice_of_words(tmp_path):
    remembered(tmp_path / "a" / "run.words", ["finetune", "seed=0"])
    remembered(tmp_path / "a" / "run.words", ["finetune", "seed=0"])
    with pytest.raises(Geo3dError, match="run.words: made with seed=0 instead of seed=1; give another folder as out"):
        remembered(tmp_path / "a" / "run.words", ["finetune", "seed=1"])


def test_a_mean_of_several_has_its_standard_error():
    assert spread([1.0, 3.0]) == "2.0 +- 1.0"


def test_every_study_is_described():
    assert all(f"\n{name} " in studies.__main__.__doc__ for name in STUDIES)


@pytest.mark.usefixtures("in_this_process")
def test_published_networks_for_hands_are_trained_at_equal_steps_and_equal_minutes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(studies.rivals, "TIMED", 1)
    encoder = tmp_path / "encoder"
    save_encoder(PointNet2(num_samples=(16, 4), num_neighbors=(8, 8), channels=((8,), (16,))), encoder)
    study = ["rivals", f"checkpoint={encoder}", "labels=64", "steps=2", "tests=2", f"out={tmp_path / 'rivals'}"]
    main([*study, "--", "trainer=cpu"])
    first = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in first.splitlines()[-6:]]
    assert [row[0] for row in rows] == ["geo3d, from scratch", "geo3d, pretrained"] + [
        name for name in ("HandPointNet", "HandFoldingNet") for _ in range(2)
    ]
    assert [row[1] for row in rows[2::2]] == ["2,406,954", "1,282,505"] and rows[3][2] == rows[5][2] == "2"
    assert all(10 < float(error) < 500 for row in rows for error in row[4:])
    main([*study, "--", "trainer=cpu"])
    assert capsys.readouterr().out.splitlines()[-6:] == first.splitlines()[-6:]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    out = tmp_path_factory.mktemp("network") / "pose"
    geo3d_main(["finetune", "task=hand_pose", "data=hands", "data.size=4", "encoder=pointnet2", *SMALL[1:],
                "trainer.max_steps=1", "trainer.progress=false", f"out={out}"])  # fmt: skip
    return out


def test_error_and_time_of_every_setting(network, tmp_path, capsys):
    picture = tmp_path / "pareto.png"
    main(["pareto", f"networks=[{network},{network}]", "names=[first,second]", "tests=2", f"picture={picture}"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["first"] * 7 + ["second"] * 7 and picture.stat().st_size > 10_000
    fixed = [row for row in rows[:7] if row[1].startswith("steps")]
    assert [float(row[3]) for row in fixed] == [1, 2, 3, 4]  # the first estimate, and one for each step
    assert all(float(row[4]) <= float(row[5]) for row in rows) and rows[0][2] == rows[7][2]
    with pytest.raises(Geo3dError, match="names: expected one for each of the 1 networks, found 2"):
        main(["pareto", f"networks=[{network}]", "names=[a,b]"])


def test_moving_hands_are_followed_with_and_without_the_filter(network, capsys, monkeypatch):
    monkeypatch.setattr(studies.hand_times, "FRAMES", 4)
    main(["sequences", f"network={network}", "clips=1"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [(row[0], row[1]) for row in rows] == [
        (str(steps), joints) for steps in range(4) for joints in ("of each frame", "filtered")
    ]
    assert all(float(b[3]) < float(a[3]) for a, b in zip(rows[::2], rows[1::2], strict=True))


def test_a_head_that_does_not_refine_cannot_begin_with_a_frame(tmp_path):
    out = tmp_path / "regressor"
    geo3d_main(["finetune", "task=hand_pose", "data=hands", "data.size=4", "encoder=pointnet2", "head=joint_regressor",
                *SMALL[1:], "trainer.max_steps=1", "trainer.progress=false", f"out={out}"])  # fmt: skip
    with pytest.raises(Geo3dError, match="a JointRegressor does not refine; give a network with a JointRefiner"):
        main(["sequences", f"network={out}", "clips=1"])


def test_a_steady_camera_loses_no_picture_to_a_fast_network(network, capsys):
    main(["stream", f"network={network}", "seconds=0.5", "budget=1000"])
    line = capsys.readouterr().out.splitlines()[-1]
    total, seen, lost = (
        int(re.search(pattern, line)[1]) for pattern in (r"(\d+) pictures", r"(\d+) seen", r"(\d+) left")
    )
    assert total == 30 and seen + lost == 30 and seen > 2
