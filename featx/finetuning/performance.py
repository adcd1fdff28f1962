"""Make training fast on a device: precision, convolutions and memory."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from featx.engines import TorchBackbone, bf16_is_faster, is_out_of_memory, use_winograd, winograd_is_faster
from featx.errors import EngineError

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of glibc's ``mallopt``: free memory that the end of the heap may keep, the size from which a block is
mapped outside the heap, and the number of such blocks."""
KEEP_ALL = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}
DEFAULTS = {TRIM_THRESHOLD: 1 << 26, MMAP_THRESHOLD: 1 << 25, MMAP_MAX: 1 << 16}
"""glibc raises its thresholds to these values by itself when large blocks are allocated and freed. It no longer adapts
any threshold after a program has set one."""


def amp_is_faster(device: torch.device) -> bool:
    """Tell whether training runs faster in mixed precision (bfloat16) on a device."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bf16_is_faster()


def configure_convolutions(backbone: TorchBackbone, device: torch.device, *, amp: bool) -> None:
    """Change a backbone in place to the fastest convolutions for a device. Parameters keep their names and values."""
    if device.type == "cuda":
        backbone.to(memory_format=torch.channels_last)
    elif device.type == "cpu" and not amp and winograd_is_faster():
        use_winograd(backbone)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process while training on a CPU. This works only if the C library is glibc.

    Each training step frees large blocks of memory and allocates blocks of the same size. By default glibc returns the
    blocks to the system. The system fills every page with zeros before it can be used again. This takes half of the
    time of an epoch.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    for name, value in KEEP_ALL.items():
        library.mallopt(name, value)
    try:
        yield
    finally:
        for name, value in DEFAULTS.items():
            library.mallopt(name, value)
        library.malloc_trim(0)


@contextmanager
def suggest_smaller_batches() -> Iterator[None]:
    """Turn an out-of-memory error into an ``EngineError`` that says how to use less memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or is_out_of_memory(error)):
            raise
        raise EngineError(
            "memory ran out during training; give a smaller --batch-size (with --accumulate, to keep the number of "
            "images per step), or --unfreeze fewer layers"
        ) from error
