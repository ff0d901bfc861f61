"""Keeping freed memory for the next tensor, on CPUs under Linux.

The C library gives large freed blocks back to the system at once and asks for them again for the next tensor of that
size; the system then clears every page before it hands it out. On a network of large activations that takes longer than
the element-wise arithmetic itself. `keep_freed_memory` tells the C library to keep what is freed, so that the next step
finds its pages where the last one left them.
"""

from __future__ import annotations

import ctypes
import sys

# The names and values of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 1 << 30  # blocks above one GiB are still mapped and returned one by one
_KEPT_AT_MOST = (1 << 31) - 1  # free memory at the top of the heap beyond two GiB goes back to the system


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory; True where it agreed (glibc), False elsewhere. Holds for the process."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    agreed = mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) == 1
    return mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_MOST) == 1 and agreed
