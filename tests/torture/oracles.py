"""Slow, strict parsers of every format, against which geo3d's own readers are checked.

Each takes the bytes of a file and gives its possible readings: the coordinates (N, 3) in double precision, and the
triangles if the format has faces. No reading means that the file is not valid. The parsers were written from the
descriptions of the formats, share no code with ``geo3d.io``, and read only what the samples of this campaign hold.
"""

from array_oracle import hdf5, npy, npz
from mesh_oracle import obj, off
from pcd_oracle import pcd
from ply_oracle import ply
from readings import Reading
from table_oracle import table

__all__ = ["Reading", "hdf5", "npy", "npz", "obj", "off", "pcd", "ply", "table"]
