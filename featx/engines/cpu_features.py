"""What the processor has, as far as it decides what is fastest on it."""

from time import thread_time
from timeit import repeat

SIDE, PRODUCTS = 1024, 5
"""Of the matrices, and how many products of them are timed: the fastest counts."""
GAIN = 1.6
"""How many times as fast as in float32 products in bfloat16 must be for training in it to be worth its rounding, and
faster than Winograd's algorithm in float32: 2.4 times they are on an EPYC with AVX-512, and training 1.4."""


def winograd_is_faster() -> bool:
    """Whether 3 × 3 convolutions by Winograd's algorithm are known to be faster here than direct ones.

    With AVX2 they are, twofold, and with AVX-512 as well: both were measured on EPYCs, and Intel's are taken to be
    alike. ARM has not been measured.
    """
    return _features().get("AVX2", False)


def bf16_is_faster() -> bool:
    """Whether products of matrices are far faster in bfloat16 than in float32.

    By measurement: of processors that list it, some have it at half the rate of float32. In one thread and by its own
    time, so that others at work do not decide: a run that is stopped, or repeated, is to be the same.
    """
    import torch

    # Without AVX-512 torch has loops of its own for bfloat16, and one of these products takes seconds.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    operands = [torch.ones(SIDE, SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        single, half = (min(repeat("x @ x", timer=thread_time, number=1, repeat=PRODUCTS, globals={"x": x}))
                        for x in operands)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    return single > GAIN * half


def _features() -> dict[str, bool]:
    """By name, as `numpy.show_runtime` prints them; numpy has no public name for the dictionary."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]
    except ImportError:
        return {}
    return dict(__cpu_features__)
