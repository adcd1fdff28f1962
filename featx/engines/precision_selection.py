"""Measure which precision class is the fastest on this machine. A processor may support a class but be slow at it."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from joblib import cpu_count

from featx.engines.reference_check import reference_pixels, relative_error
from featx.engines.selection import Engine
from featx.errors import EngineError
from featx.spec import ExtractSpec

CANDIDATES = ("bf16", "fp16")
MIN_SPEEDUP = 1.2
"""A class is selected only if it is at least this many times as fast as fp32. A smaller speedup is not worth the
rounding of the class, and may be noise."""
ROUNDS = 2


def fastest_precision(make: Callable[[ExtractSpec], Engine], spec: ExtractSpec) -> ExtractSpec:
    """Return a spec with the fastest precision class of this machine.

    A class is selected only if its features of the reference images agree with those at fp32, within the tolerance of
    the class.

    Parameters
    ----------
    make : callable
        Function that makes the engine for a spec.
    spec : ExtractSpec
        The features to compute; its own precision is ignored.
    """
    pixels = reference_pixels(spec)
    specs = {name: dataclasses.replace(spec, precision=name, calibration=()) for name in ("fp32", *CANDIDATES)}
    reference, limit = _time_engine(make(specs["fp32"]), pixels)
    chosen, limit = "fp32", limit / MIN_SPEEDUP
    for name in CANDIDATES:
        try:
            features, seconds = _time_engine(make(specs[name]), pixels)
        except EngineError:  # The values of this backbone overflow in this class.
            continue
        agrees = all(relative_error(features[key], reference[key]) <= specs[name].tolerance for key in reference)
        if agrees and seconds < limit:
            chosen, limit = name, seconds
    return specs[chosen]


def _time_engine(engine: Engine, images: np.ndarray) -> tuple[dict[str, np.ndarray], float]:
    """Return the features of images, and the shortest time of several runs in seconds. The first run is not timed."""
    features, seconds = engine(images), []
    # The number of images must be a multiple of the cores, so that an engine with one image per core uses all cores.
    cores = cpu_count()
    timed = images[np.arange(-(-len(images) // cores) * cores) % len(images)]
    for _ in range(ROUNDS):
        began = time.perf_counter()
        engine(timed)
        seconds.append(time.perf_counter() - began)
    return features, min(seconds)
