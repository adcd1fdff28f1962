"""How far a store's feature statistics lie from those of photographs, which the package keeps.

``reference.json`` is what ``benchmarks/reference_statistics.py`` makes of photographs: for some image sizes the mean of
each block's power-normalized averages, and how far single photographs lie from it.
"""

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from featx.backbones import feature_name
from featx.heads import BlockNormalizer
from featx.spec import ExtractSpec

POOL = "avg"
DECIMALS = 4


def distances(spec: ExtractSpec, X: np.ndarray) -> dict[int, float]:
    """How far each block's mean over images X (images, columns of ``spec``) lies from that of photographs.

    In units of how far single photographs lie from their mean: 0 is the same mean, 1 as far away as a photograph
    typically is. Of the sizes in the reference the nearest is taken, by ratio. Empty if the reference has another
    backbone, or ``spec`` no averages.
    """
    known = _reference()
    if spec.backbone_digest != known["backbone_digest"] or POOL not in spec.pools:
        return {}
    nearest = known["sizes"][min(known["sizes"], key=lambda size: abs(math.log(int(size) / spec.size)))]
    columns = {block: spec.slices[feature_name(block, POOL)] for block in spec.blocks}
    return {block: _distance(X[:, where], nearest[str(block)]) for block, where in columns.items()}


def statistics(features: np.ndarray) -> dict[str, Any]:
    """Mean and spread of one block's averages (images, channels), power-normalized: what the reference holds."""
    normalized = BlockNormalizer(None).fit_transform(features.astype(np.float64))
    mean = normalized.mean(axis=0)
    spread = np.sqrt(((normalized - mean) ** 2).sum(axis=1).mean())
    return {"mean": mean.round(DECIMALS).tolist(), "spread": round(float(spread), DECIMALS)}


def _distance(features: np.ndarray, known: dict[str, Any]) -> float:
    return float(np.linalg.norm(np.subtract(statistics(features)["mean"], known["mean"])) / known["spread"])


@cache
def _reference() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(files("featx.inspection.advice").joinpath("reference.json").read_text())
    return known
