import os

# Set before torch is imported: on tensors as small as those of the tests, threads slow torch down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
