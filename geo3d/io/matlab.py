"""Arrays in MATLAB files up to version 7."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geo3d.errors import CloudError
from geo3d.io.files import existing_file

HDF5 = 2
"""What scipy calls the version of files that MATLAB 7.3 writes."""


def read_matlab(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays with these names; others are not read.

    Raises:
        CloudError: If the file is missing, damaged or of version 7.3, or lacks one of the arrays.
    """
    from scipy.io import loadmat, whosmat  # slow to import, and needed for one format alone
    from scipy.io.matlab import matfile_version

    source = str(existing_file(path))
    try:
        version, _ = matfile_version(source, appendmat=False)
        known = [] if version == HDF5 else whosmat(source, appendmat=False)
        arrays = {} if version == HDF5 else loadmat(source, appendmat=False, variable_names=list(names))
    except Exception as error:  # scipy raises a dozen different exceptions
        reason = " ".join(str(error).split())[:100]
        raise CloudError(f"{source}: expected a MATLAB file; it is damaged, cut off or another: {reason}") from error
    if version == HDF5:
        raise CloudError(f"{source}: MATLAB's version 7.3 is not read; save the arrays with save(..., '-v7')")
    there = [str(name) for name, _, _ in known]
    missing = [name for name in names if name not in there]
    if missing:
        raise CloudError(f"{source}: expected the arrays {', '.join(names)}; found {', '.join(there) or 'none'}"[:400])
    return {name: arrays[name] for name in names}
