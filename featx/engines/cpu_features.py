"""Find out which convolutions and which number formats this processor computes fast."""

from time import thread_time
from timeit import repeat

SIDE, REPEATS = 1024, 5
"""`bf16_is_faster` multiplies matrices with ``SIDE`` rows and columns ``REPEATS`` times. The shortest time counts."""
MIN_BF16_SPEEDUP = 1.6
"""Training uses bfloat16 only if its matrix products are this many times as fast as those of float32. A smaller speedup
is not worth the rounding of bfloat16, and Winograd's algorithm in float32 may be faster (see docs/benchmarks)."""


def winograd_is_faster() -> bool:
    """Return whether this processor computes 3 × 3 convolutions faster by Winograd's algorithm than directly.

    Processors with AVX2 or AVX-512 do. This was measured on AMD (see docs/benchmarks) and is assumed for Intel. ARM was
    not measured, so the answer for ARM is False.
    """
    return _cpu_flags().get("AVX2", False)


def bf16_is_faster() -> bool:
    """Return whether matrix products are much faster in bfloat16 than in float32.

    The function measures both, because some processors that list bfloat16 run it at half the speed of float32. It
    measures the CPU time of one thread, so that other programs do not change the answer. The answer must stay the same,
    because a training that is repeated or resumed must give the same result.
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
    """Return, for each instruction set by name, whether the processor has it, as `numpy.show_runtime` prints it."""
    try:
        # numpy has no public name for this dictionary.
        from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]
    except ImportError:
        return {}
    return dict(__cpu_features__)
