"""Parses one command-line argument ``KEY=VALUE``: its key, its value in Hydra's grammar, and keys users cannot set."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from geo3d.errors import ConfigError

KEY = re.compile(r"[A-Za-z]\w*(\.\w+)*", re.ASCII)
PLAIN = re.compile(r"[\w.:+-]*", re.ASCII)
HOME = re.compile(r"""('(?:\\.|[^'])*'|"(?:\\.|[^"])*")|(?<=[\[,:\s])(~[^\[\]{},'"]*)""")
"""Matches quoted strings (group 1), and unquoted paths that begin with ``~`` (group 2), which Hydra cannot parse."""
TARGET = "_target_"
DEEPEST = 32
"""Deepest nesting of lists and mappings that is accepted; no option of geo3d needs more than four levels."""


def split(word: str, example: str = "seed=1") -> tuple[str, str]:
    """The dotted key and the text behind the first ``=``.

    Raises:
        ConfigError: If the argument is not KEY=VALUE, or users cannot set the key.

    Example:
        >>> split("out=runs/a=b")
        ('out', 'runs/a=b')
    """
    key, equals, text = word.partition("=")
    if not equals or not KEY.fullmatch(key):
        raise ConfigError(f"{word}: expected KEY=VALUE, for example {example}")
    if reserved := next(refused(key.split(".")), None):
        raise ConfigError(f"{word}: {reserved} is no option")
    if key.split(".")[0] == "hydra":
        raise ConfigError(f"{word}: hydra has no options here; give out=DIR to choose a folder")
    return key, text


def refused(names: Iterable[Any]) -> Iterator[str]:
    """The names that users cannot set: those that begin with ``_``, except ``_target_``, whose value is checked later.

    Example:
        >>> list(refused(["k", "_k", "_target_", "_partial_"]))
        ['_k', '_partial_']
    """
    return (name for name in map(str, names) if name.startswith("_") and name != TARGET)


def quoted(text: str) -> str:
    """The text in Hydra's grammar: lists, mappings and quoted strings unchanged, any other text quoted if needed.

    Example:
        >>> quoted("1e-3"), quoted("[1,2]"), quoted("/data/my clouds, old"), quoted("[~/a,b]")
        ('1e-3', '[1,2]', "'/data/my clouds, old'", "['~/a',b]")
    """
    if text[:1] in tuple("[{"):
        return HOME.sub(lambda m: m[1] or f"'{m[2].strip()}'", text)
    if PLAIN.fullmatch(text) or text[:1] in tuple("'\"") or text[:2] == "${":
        return text
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + (r"\'" if m[2] else ""), text) + "'"


def value_of(word: str) -> Any:
    """The value of ``KEY=VALUE``: a number, a truth value, a string, a list, a mapping or None.

    Raises:
        ConfigError: If the value cannot be understood, is nested too deeply, or has keys that users cannot set.

    Example:
        >>> value_of("lr=1e-3"), value_of("names=[a,2]"), value_of("out=some where"), value_of("x=null")
        (0.001, ['a', 2], 'some where', None)
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, text = split(word)
    if text.count("[") + text.count("{") > 1000 or depth(text) > DEEPEST:
        raise ConfigError(f"{key}: lists and mappings are nested too deeply; geo3d takes at most {DEEPEST} levels")
    try:
        parsed = OverridesParser.create().parse_override(f"++{key}={quoted(text)}").value()
        plain = plainly(parsed)
    except (HydraException, ValueError, RecursionError) as error:
        raise ConfigError(f"{word}: its value cannot be understood; {example(key, text)}") from error
    if reserved := next(refused(keys(plain)), None):
        raise ConfigError(f"{word}: {reserved} is no option")
    return plain


def depth(text: str) -> int:
    """The largest number of brackets that are open at the same time."""
    opened, most = 0, 0
    for character in text:
        opened += (character in "[{") - (character in "]}")
        most = max(most, opened)
    return most


def plainly(found: Any) -> Any:
    """A value from Hydra's parser in Python's own types.

    Raises:
        ValueError: If it is one of Hydra's functions, such as ``choice(1,2)``, which stand for several values.
    """
    from hydra.core.override_parser.types import QuotedString

    if isinstance(found, QuotedString):
        return found.text
    if isinstance(found, list):
        return [plainly(each) for each in found]
    if isinstance(found, dict):
        return {str(plainly(key)): plainly(each) for key, each in found.items()}
    if found is None or isinstance(found, bool | int | float | str):
        return found
    raise ValueError(f"{found}: one value is needed")


def keys(value: Any) -> Iterator[str]:
    """Every key of the mappings in a value, at any depth."""
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from keys(each)


def example(key: str, text: str) -> str:
    """A sentence on how to write a value of the kind that ``text`` seems to be.

    Example:
        >>> example("data.size", "["), example("data.root", "'a")
        ('a list is written as in data.size=[1,2]', "text is written as in data.root='some text'")
    """
    kinds = {"[": ("a list", "[1,2]"), "{": ("a mapping", "{a: 1,b: 2}")}
    kind, written = kinds.get(text[:1], ("text", "'some text'"))
    return f"{kind} is written as in {key}={written}"
