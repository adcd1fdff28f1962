"""What the model gets wrong most surely, and where in the image it looks."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.errors import ImageError, SpecMismatch, WeightsError
from featx.images import check_inside_root
from featx.inspection.explanation.drawing import overlay
from featx.inspection.explanation.explainer import Explainer
from featx.inspection.explanation.maps import NOTES
from featx.inspection.html_report.decisions import Decisions
from featx.inspection.html_report.pictures import data_uri
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section, percent, sentence
from featx.models import Model
from featx.runtime import Compute, pluralize

TITLE = "Surest mistakes"
MOST = 12
"""Mistakes that are shown."""


@dataclass(frozen=True)
class Mistake:
    """An image, its class, what it is taken for and how surely; the image and both classes' maps as pictures."""

    image: int
    path: str
    true: str
    guess: str
    confidence: float
    picture: str = ""
    guess_map: str = ""
    true_map: str = ""


@dataclass(frozen=True)
class Mistakes:
    """The surest mistakes; whether confidence is a probability, and what the maps are or why there are none."""

    rows: tuple[Mistake, ...]
    probable: bool
    note: str


def make(run: Run) -> Section:
    """The mistakes with the highest confidence; with maps, if the images and the backbone's weights are at hand."""
    found = run.decisions.single("the list of mistakes")
    wrong = np.flatnonzero(found.guesses != found.scored.labels)
    ranked = wrong[np.argsort(-found.confidence[wrong], kind="stable")][:MOST]
    rows = [_mistake(run, found, row) for row in ranked]
    note = ""
    if run.root and rows:
        rows, note = _explained(rows, run.root, found.model, run.compute)
    probable = found.scored.probabilities is not None
    data = Mistakes(tuple(rows), probable, note)
    return Section("mistakes", TITLE, _lead(data, len(wrong)), data, frozenset(row.image for row in rows))


def _mistake(run: Run, found: Decisions, row: int) -> Mistake:
    image, classes = int(found.images[row]), found.model.classes
    true, guess = classes[found.scored.labels[row]], classes[found.guesses[row]]
    return Mistake(image, run.images.paths[image], true, guess, float(found.confidence[row]))


def _explained(rows: list[Mistake], root: Path, model: Model, compute: Compute) -> tuple[list[Mistake], str]:
    """The mistakes with maps, and what these are, or why there are none."""
    try:
        explainer = Explainer(model, compute)
    except (WeightsError, SpecMismatch) as error:
        return rows, f"no maps: {error}"
    maps = f"red speaks for the class, blue against it. {sentence(NOTES[explainer.method, explainer.exact])}"
    return [_with_maps(row, root, explainer) for row in rows], maps


def _with_maps(row: Mistake, root: Path, explainer: Explainer) -> Mistake:
    try:
        check_inside_root(root, row.path)
        found = explainer(root / row.path, classes=(row.guess, row.true))
    except ImageError:
        return row
    guess, true = (data_uri(overlay(found.pixels, part.total)) for part in found.classes)
    return replace(row, picture=data_uri(found.pixels), guess_map=guess, true_map=true)


def _lead(data: Mistakes, total: int) -> str:
    if not data.rows:
        return "Nothing is taken for another class."
    surest = data.rows[0]
    sure = f" with a probability of {percent(surest.confidence, 0)}" if data.probable else ""
    shown = f"the {len(data.rows)} surest" if total > len(data.rows) else "all"
    here = f"{pluralize(total, 'image')} {'is' if total == 1 else 'are'} mistaken"
    here += f"; {shown} are here" if total > 1 else ""
    return f"{here}. {surest.path} is taken for {surest.guess}{sure}."
