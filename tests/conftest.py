import os

# Before torch is imported: on tensors as small as the tests' ones, threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")
