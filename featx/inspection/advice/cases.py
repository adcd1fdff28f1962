"""The four cases of transfer learning, and what each says to do."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.inspection.advice.likeness import Likeness
from featx.inspection.advice.size import Size
from featx.inspection.advice.thresholds import BORDER
from featx.inspection.depth_probe import Depth, ProbeReport


@dataclass(frozen=True)
class Case:
    """One quarter of the plane. ``large`` and ``alike`` are where it lies; ``way`` is what to do, in words."""

    large: bool
    alike: bool
    way: str

    @property
    def name(self) -> str:
        """``small, alike``."""
        return f"{'large' if self.large else 'small'}, {'alike' if self.alike else 'unlike'}"


CASES = (
    Case(False, True, "the backbone as feature extractor: a linear head on deep blocks"),
    Case(True, True, "fine-tune the last block and the head"),
    Case(False, False, "early blocks as feature extractor: a linear head on them"),
    Case(True, False, "begin with the pretrained weights and fine-tune all layers"),
)


def case_of(size: Size, likeness: Likeness) -> Case:
    """The quarter that the scores say; alike where likeness could not be measured."""
    alike = likeness.score is None or likeness.score >= BORDER
    return next(case for case in CASES if (case.large, case.alike) == (size.score >= BORDER, alike))


def blocks_of(case: Case, probed: ProbeReport) -> Depth:
    """The blocks that the head is fitted on, of those as good as the best: deep ones, or, where wanted, early ones."""
    if not case.alike:
        return probed.best if case.large else probed.one_se
    deepest = max(depth.blocks[-1] for depth in probed.near_best)
    return max((depth for depth in probed.near_best if depth.blocks[-1] == deepest), key=lambda depth: depth.mean)


def commands_of(
    case: Case, depth: Depth, head: str, store: str | Path, selection: dict[str, Any], root: str | Path | None
) -> tuple[str, ...]:
    """Lines to type, one after the other."""
    path = Path(store)
    model, tuned = path.with_suffix(".featx"), path.with_name(f"{path.stem}-tuned.featx")
    chosen: list[object] = ["fit", path, "-o", model, "--blocks", depth.name]
    if case.large:
        chosen += ["--head", head]
    if "test_size" in selection:
        chosen += ["--test-size", selection["test_size"], "--seed", selection["seed"]]
    elif selection:
        chosen += ["--split-column", selection["column"]]
    lines = [chosen]
    if selection:
        lines.append(["evaluate", model, path])
    if case.large:
        layers = f"block{depth.blocks[-1]}" if case.alike else "all"
        lines.append(["finetune", model, path, "-o", tuned, "--root", root or "IMAGES", "--unfreeze", layers])
    return tuple(shlex.join(["featx", *map(str, line)]) for line in lines)


def expected_gain(case: Case, depth: Depth, probed: ProbeReport, size: Size) -> str:
    """What the way brings: measured for a head, bounded for a fine-tuning, of which nothing is measured yet."""
    last = max((one for one in probed.depths if len(one.blocks) == 1), key=lambda one: one.blocks)
    subject = f"blocks {depth.name} have" if len(depth.blocks) > 1 else f"block {depth.name} has"
    sentence = f"{subject} {depth.mean:.3f} ± {depth.standard_error:.3f} cross-validated"
    if depth is not last:
        sentence += f", {100 * (depth.mean - last.mean):+.1f} points against block {last.name} alone"
    if not case.large:
        return sentence
    remaining = min(size.floor, 1 - depth.mean)
    return (
        f"{sentence}; what fine-tuning adds is not known before it is done: it never ends below its start on "
        f"validation, and can gain {100 * (1 - depth.mean):.1f} points at most, of which {100 * remaining:.1f} would "
        "remain with any number of images on these features"
    )
