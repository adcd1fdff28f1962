"""Let the C library keep freed memory while a CPU trains: giving it back and taking it anew costs half of an epoch."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Names of glibc's ``mallopt``: how much may lie free at the end of the heap, and how many blocks beside it."""
KEEPING = {TRIM_THRESHOLD: 2**31 - 1, MMAP_MAX: 0}
DEFAULTS = {TRIM_THRESHOLD: 1 << 17, MMAP_MAX: 1 << 16}


@contextmanager
def keeping_memory() -> Iterator[None]:
    """In glibc, take all memory from a heap that does not shrink; elsewhere do nothing.

    torch asks for the same large blocks in each step. glibc takes each from the system, which hands out pages of zeros
    one by one as they are touched, and gives it back a moment later.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        yield
        return
    for name, value in KEEPING.items():
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in DEFAULTS.items():
            library.mallopt(name, value)
        library.malloc_trim(0)
