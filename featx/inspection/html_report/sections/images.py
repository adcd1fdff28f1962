"""Make the sections on single images: confident mistakes with class maps, and suspicious images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featx.errors import ImageError, SpecMismatch, WeightsError
from featx.images import check_inside_root
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.page import data_uri
from featx.inspection.html_report.section import Headline, Section, percent, sentence
from featx.inspection.html_report.unseen import UnseenDecisions
from featx.inspection.suspect_images.findings import NearDuplicate, Suspects
from featx.models import Model
from featx.runtime import Compute, pluralize

if TYPE_CHECKING:
    from featx.inspection.explanation.explainer import Explainer

MAX_MISTAKES = 12
MAX_SUSPECTS, MAX_DUPLICATES = 24, 12
"""Images and pairs shown of each kind."""


@dataclass(frozen=True)
class MistakenImage:
    """A misclassified image. ``pixels`` and both class maps are data URIs, which are empty if there are no maps."""

    image: int
    path: str
    true: str
    predicted: str
    confidence: float
    pixels: str = ""
    predicted_map: str = ""
    true_map: str = ""


@dataclass(frozen=True)
class MistakeList:
    """The most confident mistakes, whether confidence is a probability, and a note on the maps."""

    rows: tuple[MistakenImage, ...]
    has_probability: bool
    note: str


@dataclass(frozen=True)
class SuspectList:
    """The findings of `featx.suspects` with pairs across splits first, and the numbers of the images by path."""

    found: Suspects
    pairs: tuple[NearDuplicate, ...]
    numbers: dict[str, int]
    show_confused: bool
    most: int = MAX_SUSPECTS
    most_pairs: int = MAX_DUPLICATES


def make_mistakes(context: ReportContext) -> Section:
    """List the most confident mistakes, with class maps if images and weights are available."""
    decisions = context.decisions.require_single_label("the list of mistakes")
    wrong = np.flatnonzero(decisions.predictions != decisions.scored.labels)
    ranked = wrong[np.argsort(-decisions.confidence[wrong], kind="stable")][:MAX_MISTAKES]
    rows = [_mistaken_image(context, decisions, row) for row in ranked]
    note = ""
    if context.root and rows:
        rows, note = _add_maps(rows, context.root, decisions.model, context.compute)
    data = MistakeList(tuple(rows), decisions.scored.probabilities is not None, note)
    return Section(_mistakes_lead(data, len(wrong)), data, frozenset(row.image for row in rows))


def _mistaken_image(context: ReportContext, decisions: UnseenDecisions, row: int) -> MistakenImage:
    image, classes = int(decisions.images[row]), decisions.model.classes
    true, predicted = classes[decisions.scored.labels[row]], classes[decisions.predictions[row]]
    return MistakenImage(image, context.images.paths[image], true, predicted, float(decisions.confidence[row]))


def _add_maps(rows: list[MistakenImage], root: Path, model: Model, compute: Compute) -> tuple[list[MistakenImage], str]:
    """Return the images with class maps, and a note that explains the maps or their absence."""
    try:
        from featx.inspection.explanation.class_maps import NOTES
        from featx.inspection.explanation.explainer import Explainer

        explainer = Explainer(model, Compute(device=compute.device))
    except ModuleNotFoundError as error:
        return rows, f"no class maps: they need a package: pip install 'featx[torch]' ({error})"
    except (WeightsError, SpecMismatch) as error:
        return rows, f"no class maps: {error}"
    note = f"red supports the class, blue opposes it. {sentence(NOTES[explainer.method, explainer.exact])}"
    return [_with_maps(row, root, explainer) for row in rows], note


def _with_maps(row: MistakenImage, root: Path, explainer: "Explainer") -> MistakenImage:
    from featx.inspection.explanation.overlay import overlay_map

    try:
        check_inside_root(root, row.path)
        explanation = explainer(root / row.path, classes=(row.predicted, row.true))
    except ImageError:
        return row
    predicted, true = (data_uri(overlay_map(explanation.pixels, one.total)) for one in explanation.classes)
    return replace(row, pixels=data_uri(explanation.pixels), predicted_map=predicted, true_map=true)


def _mistakes_lead(data: MistakeList, total: int) -> str:
    if not data.rows:
        return "No image is misclassified."
    first = data.rows[0]
    sure = f" with a probability of {percent(first.confidence, 0)}" if data.has_probability else ""
    count = f"{pluralize(total, 'image')} {'is' if total == 1 else 'are'} misclassified"
    shown = f"; the {len(data.rows)} with the highest confidence are shown" if total > len(data.rows) else ""
    return f"{count}{shown}. The most confident mistake is {first.path}, classified as {first.predicted}{sure}."


def make_suspects(context: ReportContext) -> Section:
    """List likely wrong labels, near-duplicates and outliers."""
    found = context.suspects
    pairs = tuple(sorted(found.near_duplicates, key=lambda pair: not pair.split_columns))
    shown = {item.path for item in found.mislabeled[:MAX_SUSPECTS]}
    shown |= {item.path for item in found.outliers[:MAX_SUSPECTS]}
    shown |= {path for pair in pairs[:MAX_DUPLICATES] for path in (pair.first, pair.second)}
    numbers = {path: number for number, path in enumerate(context.images.paths) if path in shown}
    duplicates = pluralize(len(found.near_duplicates), "near-duplicate pair")
    headline = Headline("Suspicious labels", f"{len(found.mislabeled):,}", f"and {duplicates}")
    # With a model, the confusion matrix shows the confused classes.
    data = SuspectList(found, pairs, numbers, show_confused=context.model is None)
    return Section(_suspects_lead(found, duplicates), data, frozenset(numbers.values()), headline)


def _suspects_lead(found: Suspects, duplicates: str) -> str:
    labels = f"{len(found.mislabeled):,} of {pluralize(found.images, 'label')} may be wrong"
    sides = ", ".join(f"{pairs} across {column}" for column, pairs in found.pairs_across_splits.items())
    return f"{labels}; {duplicates}{f' ({sides})' if sides else ''}; {pluralize(len(found.outliers), 'outlier')}."
