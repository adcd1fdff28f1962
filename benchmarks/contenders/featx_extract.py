"""Measure featx: the engine alone, and ``extract`` as a user calls it.

The third command-line argument is the precision, the fourth the blocks, the fifth the device.
"""

import sys
from pathlib import Path

import numpy as np
from worker import SIZE, serve

from featx.backbones import load_backbone
from featx.engines import make_engine
from featx.extraction import extract
from featx.extraction.precision import draw_sample, resolve_precision
from featx.images import list_images
from featx.runtime import Compute
from featx.spec import ExtractSpec

precision, blocks, device = sys.argv[3], tuple(map(int, sys.argv[4].split(","))), sys.argv[5]
weights = load_backbone("oxford")
sample = list_images([Path(line) for line in Path(sys.argv[1]).read_text().splitlines()[::40]])


def make(spec):
    return make_engine(weights, spec, device)


spec = ExtractSpec(size=SIZE, blocks=blocks, precision=precision)
engine = make(
    resolve_precision(
        spec, None, make, lambda spec: draw_sample(sample, spec, workers=2, max_pixels=10**9), weights
    ).spec
)
engine(np.zeros((engine.batch_size, SIZE, SIZE, 3), np.uint8))


def backbone(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    for start in range(0, count, engine.batch_size):
        engine(pixels[start : start + engine.batch_size])


def store(photos, output):
    name = f"featx-{precision}-{'-'.join(map(str, blocks))}.h5"
    # Use links, because a source lists each path only once.
    folder = output / f"{name}.links"
    folder.mkdir(exist_ok=True)
    for number, path in enumerate(photos):
        link = folder / f"{number:06}{path.suffix}"
        if not link.exists():
            link.symlink_to(path)
    paths = [folder / f"{number:06}{path.suffix}" for number, path in enumerate(photos)]
    extract(paths, output / name, spec, Compute(device=device), overwrite=True)


serve(backbone, store)
