"""YAML files, without any Python object in them."""

from pathlib import Path
from typing import Any

import yaml

from geo3d.errors import CloudError
from geo3d.io.files import read_bytes


class _Loader(yaml.SafeLoader):
    """Reads plain values, and the tuples that Python programs write as lists."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_yaml_seq)


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file: mappings, lists, text and numbers.

    Raises:
        CloudError: If the file cannot be read, is no YAML, or holds Python objects other than tuples.
    """
    try:
        return yaml.load(read_bytes(path), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise CloudError(f"{path}: expected YAML of plain values; it is damaged or another: {reason}") from error
