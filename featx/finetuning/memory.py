"""Memory of training: kept by the C library meanwhile, as giving it back and taking it anew costs half of an epoch."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from featx.engines import lacks_memory
from featx.errors import EngineError

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Names of glibc's ``mallopt``: how much may lie free at the end of the heap, and from which size on how many blocks
lie beside it."""
KEEPING = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}
DEFAULTS = {TRIM_THRESHOLD: 1 << 26, MMAP_THRESHOLD: 1 << 25, MMAP_MAX: 1 << 16}
"""The thresholds that glibc comes to by itself where large blocks come and go; once one is set, it adapts no more."""


@contextmanager
def keeping_memory() -> Iterator[None]:
    """In glibc, take all memory from a heap that does not shrink; elsewhere do nothing.

    torch asks for the same large blocks in each step. glibc takes each from the system, which hands out pages of zeros
    one by one as they are touched, and gives it back a moment later.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
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


@contextmanager
def advising_smaller_batches() -> Iterator[None]:
    """Raise a lack of memory as an ``EngineError`` that says what needs less."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or lacks_memory(error)):
            raise
        raise EngineError(
            "memory ran out in training; give a smaller --batch-size, with --accumulate for as many images a step, or "
            "--unfreeze fewer layers"
        ) from error
