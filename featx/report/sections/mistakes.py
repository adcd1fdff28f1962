"""What the model gets wrong most surely, and where in the image it looks."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featx.errors import ImageError
from featx.explain import Explainer, overlay
from featx.explain.maps import NOTES
from featx.report.decisions import Decisions
from featx.report.pictures import data_uri
from featx.report.run import Run
from featx.report.section import Section, percent

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
    """The surest mistakes; whether confidence is a probability, and what the maps are."""

    rows: tuple[Mistake, ...]
    probable: bool
    note: str


def make(run: Run) -> Section:
    """The mistakes with the highest confidence; with maps, if the images are at hand."""
    found = run.decisions.single("the list of mistakes")
    wrong = np.flatnonzero(found.guesses != found.scored.labels)
    ranked = wrong[np.argsort(-found.confidence[wrong], kind="stable")][:MOST]
    rows = [_mistake(run, found, row) for row in ranked]
    note = ""
    if run.root and run.model and rows:
        explainer = Explainer(run.model, device=run.device)
        rows = [_with_maps(row, run.root, explainer) for row in rows]
        note = NOTES[explainer.method, explainer.exact]
    probable = found.scored.probability is not None
    data = Mistakes(tuple(rows), probable, note)
    return Section("mistakes", TITLE, _lead(data, len(wrong)), data, frozenset(row.image for row in rows))


def _mistake(run: Run, found: Decisions, row: int) -> Mistake:
    image, classes = int(found.images[row]), found.model.classes
    true, guess = classes[found.scored.labels[row]], classes[found.guesses[row]]
    return Mistake(image, run.images.paths[image], true, guess, float(found.confidence[row]))


def _with_maps(row: Mistake, root: Path, explainer: Explainer) -> Mistake:
    try:
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
    return f"{total:,} images are mistaken; {shown} are here. {surest.path} is taken for {surest.guess}{sure}."
