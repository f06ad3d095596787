"""Memory that was used and is free again, back to the system."""

import ctypes
import sys


def trim_heap() -> None:
    """Give what is free in the heap back, where the C library is glibc; takes milliseconds.

    glibc keeps the large blocks that PyTorch frees on a CPU, and pieces of them that live on keep it from using them again: the
    process grew by 100 MB with each update, to 3 GB for students of a few MB.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
