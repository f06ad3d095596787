"""Settings of all tests."""

import os

# Tests run on machines with few cores: two threads that fight for one core are slower than one.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
