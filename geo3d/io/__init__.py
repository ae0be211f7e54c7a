"""Clouds and meshes from and to files."""

from geo3d.io.axes import check_up, to_z_up
from geo3d.io.files import replacing, write_json
from geo3d.io.read import read_cloud, read_mesh
from geo3d.io.write import write_cloud

__all__ = ["check_up", "read_cloud", "read_mesh", "replacing", "to_z_up", "write_cloud", "write_json"]
