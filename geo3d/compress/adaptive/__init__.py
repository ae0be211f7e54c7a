"""One encoder that runs at several widths, depths and numbers of points."""
