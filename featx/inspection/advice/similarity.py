"""Measure how similar images are to the photographs of ImageNet, which the backbone was trained on.

The images are compared with the feature statistics of photographs in ``reference.json``. For several image sizes, it
holds the mean of each block's power-normalized ``avg`` features, and the typical distance of one photograph from this
mean. ``benchmarks/reference_statistics.py`` makes this file.
"""

import json
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from featx.backbones import BLOCK_NUMBERS, feature_name
from featx.heads import BlockNormalizer
from featx.inspection.advice.thresholds import DISTANCE, SMALLEST_FOR_DEPTH
from featx.inspection.depth_probe import Depth, ProbeReport
from featx.spec import ExtractSpec

DEEPEST = BLOCK_NUMBERS[-1]
POOL = "avg"
DECIMALS = 4


@dataclass(frozen=True)
class Similarity:
    """Similarity of images to photographs, from 0 (different) to 1 (similar), and the values it was computed from.

    Parameters
    ----------
    score : float or None
        Mean of the parts that could be measured: ``depth``, ``last_block`` and ``statistics``. None if no part was
        measured.
    depth : float or None
        Score of the shallowest depth within one standard error of the best depth: 1 if it ends at block 5, 0.5 if it
        ends at block 4, and 0 if it ends before. None if block 5 alone is the best depth.
    last_block : float or None
        Score that compares the errors of block 5 with the errors of the best earlier block; 0.5 if they are equal.
    statistics : float or None
        Score of the mean distance between the features of the images and of photographs; 0.5 at the threshold
        ``DISTANCE``.
    best, shallowest : str
        The best depth of the probe, and the shallowest depth within one standard error of the best.
    last_block_gap : float or None
        Accuracy of the best earlier block minus accuracy of block 5; negative if block 5 is better.
    distances : dict
        Distance between the feature means of the images and of photographs, by block; see `distances_from_photographs`.
    """

    score: float | None
    depth: float | None
    last_block: float | None
    statistics: float | None
    best: str
    shallowest: str
    last_block_gap: float | None
    distances: dict[int, float]

    @property
    def parts(self) -> dict[str, float]:
        """The parts that were measured, by name."""
        parts = {"depth": self.depth, "last block": self.last_block, "statistics": self.statistics}
        return {name: part for name, part in parts.items() if part is not None}


def measure_similarity(probed: ProbeReport, distances: dict[int, float], size: int) -> Similarity:
    """Measure similarity by the best depths and by feature statistics.

    If images have fewer than ``SMALLEST_FOR_DEPTH`` pixels per side, only statistics are used. Block 5 then has too few
    positions to be the best block, even on photographs.

    Parameters
    ----------
    probed : ProbeReport
        Accuracy of each depth.
    distances : dict
        Distances by block, as `distances_from_photographs` returns them.
    size : int
        Side of the images in pixels.
    """
    single = {depth.blocks[0]: depth for depth in probed.depths if len(depth.blocks) == 1}
    earlier = [depth for block, depth in single.items() if block < DEEPEST]
    gap, depth_part, last_block = None, None, None
    if DEEPEST in single and earlier:
        best_earlier = max(earlier, key=lambda depth: depth.mean)
        gap = best_earlier.mean - single[DEEPEST].mean
        if size >= SMALLEST_FOR_DEPTH:
            # If block 5 is as good as any depth, an equally good earlier depth tells nothing about similarity,
            # because the scores of both are at the ceiling.
            if single[DEEPEST].mean < probed.best.mean:
                depth_part = max(0.0, 1 - (DEEPEST - probed.one_se.blocks[-1]) / 2)
            ratio = _errors(single[DEEPEST], probed.rows) / _errors(best_earlier, probed.rows)
            last_block = 1 / (1 + ratio**2)
    mean = sum(distances.values()) / len(distances) if distances else None
    statistics = None if mean is None else 1 / (1 + (mean / DISTANCE) ** 2)
    measured = [part for part in (depth_part, last_block, statistics) if part is not None]
    score = sum(measured) / len(measured) if measured else None
    return Similarity(score, depth_part, last_block, statistics, probed.best.name, probed.one_se.name, gap, distances)


def _errors(depth: Depth, rows: int) -> float:
    """Return the number of wrong rows plus one. Adding one keeps the ratio of two small numbers from being extreme."""
    return (1 - depth.mean) * rows + 1


def distances_from_photographs(spec: ExtractSpec, X: np.ndarray) -> dict[int, float]:
    """Measure the distance between the mean features of images and of photographs, by block.

    The unit is the typical distance of one photograph from the mean of photographs. A distance of 0 means equal means.
    The reference with the nearest image size is used. Sizes are compared by their ratio.

    Parameters
    ----------
    spec : ExtractSpec
        Spec of the features.
    X : float array (images, columns)

    Returns
    -------
    dict
        Distances by block. It is empty if the reference belongs to another backbone, or if the features lack ``avg``
        pooling.
    """
    reference = _read_reference()
    if spec.backbone_digest != reference["backbone_digest"] or POOL not in spec.pools:
        return {}
    nearest = reference["sizes"][min(reference["sizes"], key=lambda size: abs(math.log(int(size) / spec.size)))]
    columns = {block: spec.slices[feature_name(block, POOL)] for block in spec.blocks}
    return {block: _distance(X[:, where], nearest[str(block)]) for block, where in columns.items()}


def feature_statistics(features: np.ndarray) -> dict[str, Any]:
    """Compute the values of the reference: mean and spread of one block's ``avg`` features (images, channels)."""
    normalized = BlockNormalizer(None).fit_transform(features.astype(np.float64))
    mean = normalized.mean(axis=0)
    spread = np.sqrt(((normalized - mean) ** 2).sum(axis=1).mean())
    return {"mean": mean.round(DECIMALS).tolist(), "spread": round(float(spread), DECIMALS)}


def _distance(features: np.ndarray, reference: dict[str, Any]) -> float:
    difference = np.subtract(feature_statistics(features)["mean"], reference["mean"])
    return float(np.linalg.norm(difference) / reference["spread"])


@cache
def _read_reference() -> dict[str, Any]:
    reference: dict[str, Any] = json.loads(files("featx.inspection.advice").joinpath("reference.json").read_text())
    return reference
