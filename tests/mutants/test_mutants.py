"""The script that makes mutants: on a toy package, one function of which is well tested and one hardly."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import Written, applied, compiles, mutants_of, read
from run_mutants import Tree, chance, folder_of, report

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[2]
GOOD = "def larger(a, b):\n    if a > b:\n        return a\n    return b\n"
BAD = "def share(part, whole=4):\n    if not whole:\n        raise ValueError(whole)\n    return part / whole\n"


def kinds(source):
    return [(mutant.kind, mutant.new) for mutant in mutants_of("toy/a.py", source)]


def test_changes_are_small_and_leave_types_and_texts_alone():
    found = kinds('"""1 < 2"""\nx: "int" = 3\ndef f(a: int = 1 < 2) -> "str":\n    return f"{a + 1}"\n')
    assert found == [
        ("number", 'x: "int" = 4'),
        ("comparison", 'def f(a: int = (1 <= 2)) -> "str":'),
        ("comparison", 'def f(a: int = (1 >= 2)) -> "str":'),
        ("number", 'def f(a: int = 2 < 2) -> "str":'),
        ("number", 'def f(a: int = 1 < 3) -> "str":'),
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("not a", [("sign", "a")]),
        ("a and b", [("and or", "(a or b)")]),
        ("a - b", [("arithmetic", "(a + b)"), ("order", "(b - a)")]),
        ("2 * (a + b)", [("arithmetic", "(2 / (a + b))"), ("number", "3 * (a + b)"), ("arithmetic", "2 * ((a - b))")]),
        ("f(a, b)", [("removed", "pass"), ("arguments", "f(b, a)")]),
        ("a = max(b, c) + torch.minimum(d, e)", [("arithmetic", "a = (max(b, c) - torch.minimum(d, e))")]),
        ("a = zip(*b, strict=True)", []),
        ("f(*a, b)", [("removed", "pass")]),
        ("a if b else c", [("branch", "a if (not b) else c")]),
        ("a.b = c", [("removed", "pass")]),
        ("a += True", [("removed", "pass"), ("truth", "a += False")]),
        ("é = 0.5; ü = 0.0", [("number", "é = 1.0; ü = 0.0"), ("number", "é = 0.5; ü = 1.0")]),
        ("if a:\n    b\nelse:\n    c", [("branch", "if (not a):")]),
        ("while a:\n    break", [("branch", "while (not a):"), ("loop", "continue")]),
        ("if TYPE_CHECKING:\n    f(1, 2)", []),
    ],
)
def test_every_kind_of_change(source, expected):
    assert kinds(source) == expected


def test_of_every_file_all_mutants_are_other_programs():
    for path in ("geo3d/invariance/views.py", "geo3d/seeds.py", "geo3d/io/table.py"):
        source = (ROOT / path).read_text()
        found = [mutant for mutant in mutants_of(path, source) if compiles(mutant)]
        assert len(found) > 5
        assert all(ast.dump(ast.parse(mutant.text)) != ast.dump(ast.parse(source)) for mutant in found)


def test_written_changes_fit_the_sources():
    changes = read(HERE / "written.txt")
    assert len(changes) >= 13
    for change in changes:
        source = (ROOT / change.path).read_text()
        assert change.why and applied(change, source).text != source, change
        assert all((ROOT / test).is_file() for test in change.tests), change
    for change in read(HERE / "equivalent.txt"):
        assert change.why and (ROOT / change.path).is_file(), change


def test_what_a_written_change_replaces_is_there_once():
    change = Written("why", "a.py", "a\n  b", "c", [])
    assert applied(change, "x\na\n  b\n").text == "x\nc\n" and applied(change, "x\na\n  b\n").line == 2
    for source in ("a", "a\n  b\na\n  b"):
        with pytest.raises(ValueError, match="exactly once"):
            applied(change, source)


def test_written_changes_are_read(tmp_path):
    text = "# One\n# reason.\ngeo3d/a.py\n- x\n-   y\n+ z\n= t.py u.py\n\n\n# Another.\ngeo3d/b.py\n- p - q\n+ p + q\n"
    (tmp_path / "w.txt").write_text(text)
    assert read(tmp_path / "w.txt") == [
        Written("One reason.", "geo3d/a.py", "x\n  y", "z", ["t.py", "u.py"]),
        Written("Another.", "geo3d/b.py", "p - q", "p + q", []),
    ]


def toy(root):
    """Two files; b is used by c, whose test is that of b as well."""
    (root / "geo3d" / "inner").mkdir(parents=True)
    (root / "tests" / "inner").mkdir(parents=True)
    (root / "geo3d" / "__init__.py").write_text("")
    (root / "geo3d" / "inner" / "__init__.py").write_text("from geo3d.inner.a import larger\n")
    (root / "geo3d" / "inner" / "a.py").write_text(GOOD)
    (root / "geo3d" / "b.py").write_text(BAD)
    (root / "geo3d" / "c.py").write_text("def half():\n    from geo3d.b import share\n\n    return share(2)\n")
    (root / "tests" / "inner" / "test_a.py").write_text(
        "from geo3d.inner import larger\n\n\n"
        "def test_larger():\n    assert larger(1, 2) == larger(2, 1) == 2\n    assert larger(a := [1], [1]) is not a\n"
    )
    (root / "tests" / "test_c.py").write_text("from geo3d.c import half\n\n\ndef test_half():\n    assert half() > 0\n")
    (root / "tests" / "test_fails.py").write_text(
        "import geo3d.b\nimport geo3d.inner.a\n\n\ndef test_fails():\n    assert False\n"
    )
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    return root


def test_near_tests_mirror_import_or_use_the_file(tmp_path):
    tree = Tree(toy(tmp_path))
    assert tree.near("geo3d/inner/a.py") == ["tests/inner/test_a.py", "tests/test_fails.py", "tests/test_c.py"]
    assert tree.near("geo3d/b.py") == ["tests/test_fails.py", "tests/test_c.py"]
    assert folder_of("geo3d/b.py") == "b" and folder_of("geo3d/inner/a.py") == "inner"


def test_draws_are_the_same_twice_and_differ_between_seeds(tmp_path):
    tree = Tree(toy(tmp_path))
    once, twice, other = (chance(tree, None, 3, seed) for seed in (0, 0, 1))
    assert once == twice != other and len(once) == len(set(once))


def test_a_campaign_tells_well_tested_code_from_hardly_tested_code(tmp_path):
    """In a process of its own, with a copy of the script in the toy's tests."""
    root = toy(tmp_path / "toy")
    (root / "tests" / "mutants").mkdir()
    for name in ("mutants.py", "run_mutants.py", "nearness.py", "written.txt"):
        (root / "tests" / "mutants" / name).write_text((HERE / name).read_text() if name.endswith(".py") else "")
    equal = "# Nothing tells the one from the other.\ngeo3d/b.py\n- raise ValueError(whole)\n+ pass\n"
    (root / "tests" / "mutants" / "equivalent.txt").write_text(equal)
    words = [
        sys.executable,
        "tests/mutants/run_mutants.py",
        "--number",
        "99",
        "--out",
        "out.jsonl",
        "--libraries",
        "pytest",
    ]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    rows = {
        line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()[0] in "b c inner all"
    }
    assert rows["inner"] == ["3", "0", "0", "0", "100.0%"]  # >= and <=, and the other branch
    killed, late, survived, equivalent, _ = rows["b"]
    assert (killed, late, equivalent) == ("2", "0", "1") and int(survived) >= 2
    assert "left out, as it fails without a change: tests/test_fails.py::test_fails" in done.stdout
    assert "geo3d/b.py:4 (arithmetic)\n    - return part / whole\n    + return (part * whole)" in done.stdout
    again = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    assert again.stdout.splitlines()[-5:-1] == done.stdout.splitlines()[-5:-1]  # known results are not made again
    assert (root / "geo3d" / "b.py").read_text() == BAD


def test_what_survived_is_looked_at_again_and_the_rest_is_not(tmp_path):
    root = toy(tmp_path / "toy")
    code = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from run_mutants import Tree, looked_at_again, mutants_of
tree = Tree(Path("."))
path = "geo3d/inner/a.py"
mutants = mutants_of(path, Path(path).read_text())[:3]
entries = [m._asdict() | {{"status": s}} for m, s in zip(mutants, ["survived", "killed", "timeout"])]
found = looked_at_again(tree, entries, mutants, Path("again.jsonl"), 1, 3.0)
print([entry["status"] for entry in found], "noticed" in found[0], "noticed" in found[1])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["['killed', 'killed', 'timeout'] True False"], done.stderr


def test_a_score_leaves_out_what_changes_nothing():
    made = [{"path": "geo3d/io/a.py", "old": "x", "new": str(i), "status": s} for i, s in enumerate(["killed"] * 3)]
    made += [{"path": "geo3d/io/a.py", "old": "x", "new": "same", "status": "survived"}]
    assert report(made, {("geo3d/io/a.py", "x", "same")}).splitlines()[-1].split() == ["all", *"3001", "100.0%"]
    assert report(made, set()).splitlines()[-1].split() == ["all", *"3010", "75.0%"]
