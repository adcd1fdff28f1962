"""Where the evidence is thin."""

from featx.inspection.advice.learning_curve import DRAWS
from featx.inspection.advice.likeness import Likeness
from featx.inspection.advice.size import Size
from featx.inspection.advice.thresholds import BORDER, NEAR, SMALLEST_FOR_DEPTH
from featx.inspection.depth_probe import ProbeReport

FAR = 4
"""Times as many images as were measured, beyond which a forecast is little more than its law."""
WIDE = 0.1


def caveats_of(size: Size, likeness: Likeness, probed: ProbeReport, pixels: int) -> tuple[str, ...]:
    """One sentence for each reason to doubt."""
    return (*_of_size(size), *_of_likeness(likeness, pixels), *_of_depths(probed))


def _of_size(size: Size) -> list[str]:
    last = size.forecasts[-1]
    reach = last.per_class / size.curve[-1].per_class
    reasons = {
        f"size {size.score:.2f} is close to the border {BORDER}: the other way may be as good, so try both":
            abs(size.score - BORDER) < NEAR,
        f"the interval of size, {size.low:.2f} to {size.high:.2f}, crosses the border {BORDER}":
            size.low < BORDER <= size.high and abs(size.score - BORDER) >= NEAR,
        f"the smallest class has {size.smallest} images: the learning curve has as few draws":
            size.smallest < DRAWS,
        f"classes are uneven, {size.smallest} images in the smallest and {size.per_class:.0f} on average: "
        "the average says little of the smallest": size.smallest < size.per_class / 2,
        f"the forecast for {last.per_class:.0f} images a class goes {reach:.1f} times as far as was measured":
            reach > FAR,
        f"the forecast is wide, {last.low:.2f} to {last.high:.2f}": last.high - last.low > WIDE,
    }  # fmt: skip
    return [reason for reason, holds in reasons.items() if holds]


def _of_likeness(likeness: Likeness, pixels: int) -> list[str]:
    score = likeness.score
    if score is None:
        return ["likeness could not be measured: it needs average pools of the oxford backbone, or block 5 and earlier "
                "ones; without it the way for alike images is given"]  # fmt: skip
    reasons = {
        f"likeness {score:.2f} is close to the border {BORDER}: the other way may be as good, so try both":
            abs(score - BORDER) < NEAR,
        f"the parts of likeness disagree ({', '.join(f'{n} {v:.2f}' for n, v in likeness.parts.items())})":
            min(likeness.parts.values()) < BORDER <= max(likeness.parts.values()),
        "feature statistics were not compared: the reference has averages of the oxford backbone alone":
            likeness.statistics is None,
        f"at {pixels} pixels block 5 has too few positions to tell likeness by depth; extract at "
        f"{SMALLEST_FOR_DEPTH} pixels or more": likeness.last_block_loss is not None and likeness.loss is None,
        "the store lacks block 5 or those before, so likeness is not told by depth": likeness.last_block_loss is None,
    }  # fmt: skip
    return [reason for reason, holds in reasons.items() if holds]


def _of_depths(probed: ProbeReport) -> list[str]:
    near = probed.near_best[1:]  # all but one, the best
    if len(near) < len(probed.depths) / 2:
        return []
    return [f"{len(near)} of {len(probed.depths) - 1} other depths are within one standard error of the best"]
