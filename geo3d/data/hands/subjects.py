"""Which people a folder of hands has, and whether that is enough."""

import warnings
from collections.abc import Collection, Sequence

from geo3d.errors import CloudError


def check_subjects(wanted: Sequence[str], there: Collection[str], source: str) -> None:
    """Check that some of the wanted people are there, and warn if not all are, as results are then not comparable.

    Args:
        wanted: Names of their folders, in order.
        there: Names of the folders that exist.
        source: The folder they are in, for messages.

    Raises:
        CloudError: If none is there.
    """
    missing = [name for name in wanted if name not in there]
    if len(missing) == len(wanted):
        raise CloudError(f"{source}: expected {', '.join(missing)}; there is none; give another split or complete it")
    if missing:
        warnings.warn(f"{source}: {', '.join(missing)} missing; results are not those of the benchmark", stacklevel=2)
