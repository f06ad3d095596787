"""That free memory goes back to the system, seen from outside in a process of its own."""

import subprocess
import sys

import pytest

GROW = """
import ctypes, os
from ams_server.heap import trim_heap

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = [libc.malloc(100_000) for _ in range(2000)]
for block in blocks:
    ctypes.memset(block, 1, 100_000)
for block in blocks[:-1]:  # the last one, at the top of the heap, keeps all below it from going back by itself
    libc.free(block)
before = resident_mb()
trim_heap()
print(before - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is known to need it")
def test_what_was_freed_below_something_that_lives_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 100
