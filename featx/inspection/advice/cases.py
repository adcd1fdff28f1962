"""The four cases of transfer learning, by size and similarity, and what to do in each."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.inspection.advice.dataset_size import DatasetSize
from featx.inspection.advice.similarity import Similarity
from featx.inspection.advice.thresholds import BORDER
from featx.inspection.depth_probe import Depth, ProbeReport


@dataclass(frozen=True)
class Case:
    """One of the four cases of size and similarity. ``strategy`` says in words what to do."""

    large: bool
    similar: bool
    strategy: str

    @property
    def name(self) -> str:
        """Name of the case, such as ``small, similar``."""
        return f"{'large' if self.large else 'small'}, {'similar' if self.similar else 'different'}"


CASES = (
    Case(False, True, "use the backbone as feature extractor: fit a linear head on late blocks"),
    Case(True, True, "fine-tune the last block and the head"),
    Case(False, False, "use early blocks as feature extractor: fit a linear head on them"),
    Case(True, False, "start from the pre-trained weights and fine-tune all layers"),
)


def find_case(size: DatasetSize, similarity: Similarity) -> Case:
    """Find the case that a data set belongs to. The data set counts as similar if similarity could not be measured."""
    similar = similarity.score is None or similarity.score >= BORDER
    return next(case for case in CASES if (case.large, case.similar) == (size.score >= BORDER, similar))


def choose_depth(case: Case, probed: ProbeReport) -> Depth:
    """Choose the blocks to fit the head on, among the depths within one standard error of the best.

    For images that are similar to photographs, late blocks are chosen. For different images, the best depth is chosen
    if there are many images, and the shallowest depth if there are few.
    """
    if not case.similar:
        return probed.best if case.large else probed.one_se
    deepest = max(depth.blocks[-1] for depth in probed.near_best)
    return max((depth for depth in probed.near_best if depth.blocks[-1] == deepest), key=lambda depth: depth.mean)


def list_commands(
    case: Case, depth: Depth, head: str, store: str | Path, selection: dict[str, Any], root: str | Path | None
) -> tuple[str, ...]:
    """List the command lines to run in a case, in order.

    Parameters
    ----------
    case : Case
    depth : Depth
        The blocks to fit the head on.
    head : str
        Key of `featx.heads.HEADS`.
    store : path
    selection : dict
        How the training rows are chosen, in the form of ``info["selection"]`` of a model.
    root : path or None
        Folder of the images.
    """
    path = Path(store)
    model, tuned = path.with_suffix(".featx"), path.with_name(f"{path.stem}-tuned.featx")
    fit: list[object] = ["fit", path, "-o", model, "--blocks", depth.name]
    if case.large:
        fit += ["--head", head]
    if "test_size" in selection:
        fit += ["--test-size", selection["test_size"], "--seed", selection["seed"]]
    elif selection:
        fit += ["--split-column", selection["column"]]
    lines = [fit]
    if selection:
        lines.append(["evaluate", model, path])
    if case.large:
        layers = f"block{depth.blocks[-1]}" if case.similar else "all"
        lines.append(["finetune", model, path, "-o", tuned, "--root", root or "IMAGES", "--unfreeze", layers])
    return tuple(shlex.join(["featx", *map(str, line)]) for line in lines)


def describe_gain(case: Case, depth: Depth, probed: ProbeReport, size: DatasetSize) -> str:
    """Describe the expected gain of a case. The gain of a head was measured. For fine-tuning, only a bound is known."""
    last = max((one for one in probed.depths if len(one.blocks) == 1), key=lambda one: one.blocks)
    subject = f"blocks {depth.name} reach" if len(depth.blocks) > 1 else f"block {depth.name} reaches"
    sentence = f"{subject} {depth.mean:.3f} ± {depth.standard_error:.3f} in cross-validation"
    if depth is not last:
        sentence += f", {100 * (depth.mean - last.mean):+.1f} points compared with block {last.name} alone"
    if not case.large:
        return sentence
    remaining = min(size.floor, 1 - depth.mean)
    return (
        f"{sentence}; what fine-tuning adds is known only afterwards: it never ends below its start on the validation "
        f"images, and it can gain at most {100 * (1 - depth.mean):.1f} points, of which {100 * remaining:.1f} would "
        "remain as errors with any number of images on these features"
    )
