"""What each mode of ``geo3d inspect`` computes before it is drawn."""
