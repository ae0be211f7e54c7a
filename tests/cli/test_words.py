import pytest

from geo3d.cli.words import split, value_of
from geo3d.errors import ConfigError


@pytest.mark.parametrize(
    "word",
    [
        "_k=3", "encoder._k=3", "encoder._partial_=true", "a.b._recursive_=1", "_convert_=all", "x={_k: 3}",
        "x=[{a: {_partial_: true}}]", "x={a: [[{__class__: 1}]]}", "hydra.run.dir=x", "hydra.verbose=true",
        "hydra={a: 1}",
    ],
)  # fmt: skip
def test_what_belongs_to_configuration_files_is_refused_at_any_depth(word):
    with pytest.raises(ConfigError, match=r"is no option|hydra has no options here|expected KEY=VALUE") as raised:
        value_of(word)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "word",
    ["", "=", "=x", "k", "1=2", "a.=1", ".a=1", "a..b=1", "é=1", "a b=1", "a-b=1", "~a=1", "+a=1", "a@b=1", "a/b=1"],
)
def test_words_of_another_form(word):
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        split(word)


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "{",
        "[1,",
        "'",
        "[choice(1,2)]",
        "{a: range(1,3)}",
        "9" * 5000,
        "[" * 40 + "]" * 40,
        "[" * 50_000,
        "{a: " * 3000,
    ],
    ids=lambda text: text[:20],
)
def test_values_without_meaning_are_one_line_that_names_the_option(text):
    with pytest.raises(ConfigError, match=r"^seed(=.*its value cannot be understood|: lists and mappings are nested)"):
        value_of(f"seed={text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("٣", "٣"),
        ("1,2", "1,2"),
        ("choice(1,2)", "choice(1,2)"),
        ("$HOME", "$HOME"),
        ("[a,{b: 'c d'}]", ["a", {"b": "c d"}]),
    ],
)
def test_what_looks_special_is_text(text, value):
    assert value_of(f"x={text}") == value
