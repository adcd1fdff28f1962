"""Images that deserve a look: labels that are probably wrong, photographs that are there twice, and outliers."""

from dataclasses import dataclass

from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Figure, Section
from featx.inspection.suspect_images.findings import NearDuplicate, Suspects
from featx.runtime import pluralize

TITLE = "Worth a look"
MOST = 24
PAIRS = 12
"""Of each kind that are shown."""


@dataclass(frozen=True)
class Look:
    """What was found, the pairs with those across splits first, and the numbers of the images by their paths."""

    found: Suspects
    pairs: tuple[NearDuplicate, ...]
    numbers: dict[str, int]
    confusions: bool
    most: int = MOST
    most_pairs: int = PAIRS


def make(run: Run) -> Section:
    """The first of each kind."""
    found = run.suspects
    pairs = tuple(sorted(found.near_duplicates, key=lambda pair: not pair.across))
    shown = {item.path for item in found.mislabeled[:MOST]} | {item.path for item in found.outliers[:MOST]}
    shown |= {path for pair in pairs[:PAIRS] for path in (pair.first, pair.second)}
    numbers = {path: number for number, path in enumerate(run.images.paths) if path in shown}
    duplicates = pluralize(len(found.near_duplicates), "near-duplicate pair")
    figure = Figure("Suspicious labels", f"{len(found.mislabeled):,}", f"and {duplicates}")
    data = Look(found, pairs, numbers, confusions=run.model is None)
    return Section("suspects", TITLE, _lead(found, duplicates), data, frozenset(numbers.values()), figure)


def _lead(found: Suspects, duplicates: str) -> str:
    labels = f"{pluralize(len(found.mislabeled), 'label')} of {found.images:,} may be wrong"
    sides = ", ".join(f"{pairs} across {column}" for column, pairs in found.straddling.items())
    return f"{labels}; {duplicates}{f' ({sides})' if sides else ''}; {pluralize(len(found.outliers), 'outlier')}."
