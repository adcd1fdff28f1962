"""Find out what this processor is fast at."""

from time import thread_time
from timeit import repeat

SIDE, REPEATS = 1024, 5
"""Side of the matrices whose product is timed, and how often; the fastest counts."""
MIN_BF16_SPEEDUP = 1.6
"""Lowest speedup of bfloat16 matrix products over float32 that makes bfloat16 worth its rounding in training. It also
has to beat Winograd's algorithm in float32 (measured, see docs/benchmarks)."""


def winograd_is_faster() -> bool:
    """Say whether 3 × 3 convolutions by Winograd's algorithm are faster here than direct ones.

    They are with AVX2 and with AVX-512 (measured on AMD, see docs/benchmarks; assumed for Intel). ARM is not measured.
    """
    return _cpu_flags().get("AVX2", False)


def bf16_is_faster() -> bool:
    """Say whether matrix products are much faster in bfloat16 than in float32.

    Measures it, because some processors that list bfloat16 run it at half the speed of float32. Takes the CPU time of
    one thread, so that other programs do not change the answer: a repeated or resumed training has to be the same.
    """
    import torch

    # Without AVX-512, torch emulates bfloat16, and one of these products takes seconds.
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    operands = [torch.ones(SIDE, SIDE, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        float32, bfloat16 = (
            min(repeat("x @ x", timer=thread_time, number=1, repeat=REPEATS, globals={"x": x})) for x in operands
        )
    finally:
        torch.set_num_threads(threads)
    return float32 > MIN_BF16_SPEEDUP * bfloat16


def _cpu_flags() -> dict[str, bool]:
    """Return the processor's instruction sets by name, as `numpy.show_runtime` prints them."""
    try:
        # numpy has no public name for this dictionary.
        from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]
    except ImportError:
        return {}
    return dict(__cpu_features__)
