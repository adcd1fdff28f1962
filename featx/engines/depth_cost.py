"""Measure how long a backbone takes up to each of its blocks."""

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
    """Measure how many seconds per image the backbone takes up to each block of a spec.

    Parameters
    ----------
    spec : ExtractSpec
        The spec, which names the backbone, its blocks and the image size.
    device, engine : str
        As in `make_engine`.
    rounds : int
        How often each block is timed. The shortest time counts. Every round times all blocks, so that a busy moment of
        the machine does not slow down one block alone.

    Returns
    -------
    dict of int to float
        Seconds per image, by block number.
    """
    weights = load_backbone_for(spec)
    batch_size = cpu_count()  # An engine that computes one image per core must have work for all cores.
    images = np.random.default_rng(0).integers(0, 256, (batch_size, spec.size, spec.size, 3), dtype=np.uint8)
    engines = {
        block: make_engine(weights, spec.select(blocks=(block,)), device, batch_size, engine) for block in spec.blocks
    }
    for run in engines.values():
        run(images)
    shortest = dict.fromkeys(engines, np.inf)
    for block in [block for _ in range(rounds) for block in engines]:
        began = time.perf_counter()
        engines[block](images)
        shortest[block] = min(shortest[block], (time.perf_counter() - began) / batch_size)
    return shortest
