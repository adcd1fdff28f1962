"""What the processor has, as far as it decides what is fastest on it."""


def winograd_pays() -> bool:
    """Whether 3 × 3 convolutions by Winograd's algorithm are known to be faster here than direct ones.

    With AVX2 they are, twofold. AVX-512 makes both faster, and they have not been measured there, nor on ARM.
    """
    features = _features()
    return features.get("AVX2", False) and not features.get("AVX512F", False)


def _features() -> dict[str, bool]:
    """By name, as `numpy.show_runtime` prints them; numpy has no public name for the dictionary."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]
    except ImportError:
        return {}
    return dict(__cpu_features__)
