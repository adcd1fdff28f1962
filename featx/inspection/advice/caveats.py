"""Reasons to doubt an advice."""

from featx.inspection.advice.dataset_size import DatasetSize
from featx.inspection.advice.learning_curve import DRAWS, MIN_DRAWS
from featx.inspection.advice.similarity import Similarity
from featx.inspection.advice.thresholds import BORDER, NEAR, SMALLEST_FOR_DEPTH
from featx.inspection.depth_probe import ProbeReport
from featx.runtime import pluralize

FAR = 4
"""A forecast for more than this many times the measured images depends on the power law alone."""
WIDE = 0.1
"""An interval of accuracy that is wider than this says little."""


def list_caveats(size: DatasetSize, similarity: Similarity, probed: ProbeReport, pixels: int) -> tuple[str, ...]:
    """List the reasons to doubt an advice, one sentence each. ``pixels`` is the side of the images."""
    return (*_about_size(size), *_about_similarity(similarity, pixels), *_about_depths(probed), *probed.notes)


def _about_size(size: DatasetSize) -> list[str]:
    last = size.forecasts[-1]
    reach = last.per_class / size.curve[-1].per_class
    reasons = {
        f"size {size.score:.2f} is close to the border {BORDER}: the other strategy may be as good, so try both":
            abs(size.score - BORDER) < NEAR,
        f"the interval of size, {size.low:.2f} to {size.high:.2f}, includes the border {BORDER}":
            size.low < BORDER <= size.high and abs(size.score - BORDER) >= NEAR,
        f"the smallest class has {size.smallest_class} images, so the learning curve has only that many draws":
            MIN_DRAWS <= size.smallest_class < DRAWS,
        f"the smallest class has {pluralize(size.smallest_class, 'image')}, too few to be tested by every draw of the "
        "learning curve": size.smallest_class < MIN_DRAWS,
        f"class sizes differ, {size.smallest_class} images in the smallest class and {size.per_class:.0f} on average: "
        "the average says little about the smallest": size.smallest_class < size.per_class / 2,
        f"the forecast for {last.per_class:.0f} images per class goes {reach:.1f} times as far as the measurements":
            reach > FAR,
        f"the forecast is wide, {last.low:.2f} to {last.high:.2f}": last.high - last.low > WIDE,
    }  # fmt: skip
    return [reason for reason, applies in reasons.items() if applies]


def _about_similarity(similarity: Similarity, pixels: int) -> list[str]:
    score = similarity.score
    if score is None:
        return ["similarity could not be measured, so the images are taken as similar to photographs; measuring it "
                "needs avg pooling with the oxford backbone, or block 5 and earlier blocks"]  # fmt: skip
    parts = ", ".join(f"{name} {part:.2f}" for name, part in similarity.parts.items())
    reasons = {
        f"similarity {score:.2f} is close to the border {BORDER}: the other strategy may be as good, so try both":
            abs(score - BORDER) < NEAR,
        f"the parts of similarity disagree ({parts})":
            min(similarity.parts.values()) < BORDER <= max(similarity.parts.values()),
        "feature statistics were not compared, because the reference has only avg pooling with the oxford backbone":
            similarity.statistics is None,
        f"at {pixels} pixels block 5 has too few positions to measure similarity by depth; extract at "
        f"{SMALLEST_FOR_DEPTH} pixels or more":
            similarity.last_block_gap is not None and similarity.last_block is None,
        "the store has not both block 5 and earlier blocks, so similarity was not measured by depth":
            similarity.last_block_gap is None,
    }  # fmt: skip
    return [reason for reason, applies in reasons.items() if applies]


def _about_depths(probed: ProbeReport) -> list[str]:
    near, others = len(probed.near_best) - 1, len(probed.depths) - 1
    if near < len(probed.depths) / 2:
        return []
    return [f"{near} of {others} other depths are within one standard error of the best"]
