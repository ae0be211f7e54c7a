"""Writes the samples of the hand data sets in ``datasets/``, all of generated hands.

``PYTHONPATH=tests python tests/data/hands/make_samples.py``
"""

import shutil
from pathlib import Path

from support.hand_files import write_dexycb, write_icvl, write_msra, write_nyu

DATASETS = Path(__file__).parents[3] / "datasets"
WRITERS = {"msra": write_msra, "nyu": write_nyu, "icvl": write_icvl, "dexycb": write_dexycb}

if __name__ == "__main__":
    for name, write in WRITERS.items():
        folder = DATASETS / name / "sample"
        shutil.rmtree(folder, ignore_errors=True)
        write(folder)
