"""Time a backbone up to each of its blocks."""

import time

import numpy as np
from joblib import cpu_count

from featx.engines.finetuned import load_backbone_for
from featx.engines.selection import make_engine
from featx.spec import ExtractSpec

ROUNDS = 2


def time_depths(
    spec: ExtractSpec, device: str = "auto", engine: str = "auto", rounds: int = ROUNDS
) -> dict[int, float]:
    """Seconds an image of the backbone up to each block of a spec, the shortest of some rounds in alternation."""
    weights = load_backbone_for(spec)
    # So many at once as to keep all cores at work in an engine that takes an image a core.
    at_once = cpu_count()
    images = np.random.default_rng(0).integers(0, 256, (at_once, spec.size, spec.size, 3), dtype=np.uint8)
    engines = {
        block: make_engine(weights, spec.select(blocks=(block,)), device, at_once, engine) for block in spec.blocks
    }
    for run in engines.values():
        run(images)
    shortest = dict.fromkeys(engines, np.inf)
    for block in [block for _ in range(rounds) for block in engines]:
        began = time.perf_counter()
        engines[block](images)
        shortest[block] = min(shortest[block], (time.perf_counter() - began) / at_once)
    return shortest
