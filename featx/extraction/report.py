"""Report what an extraction did, and which of its stages was the slowest."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featx.engines import StageTimings
from featx.extraction.extraction_plan import ExtractionPlan
from featx.images import ListingSummary, count_remarks
from featx.runtime import html_table, pluralize
from featx.spec import ExtractSpec
from featx.store import Store
from featx.table import CategoricalArray, ImageTable


@dataclass(frozen=True, repr=False)
class ExtractReport:
    """The result of an extraction: its counts, its failures and its slowest stage.

    Attributes
    ----------
    store : str
        File of the store.
    rows : int
        Number of rows in the store. Each image has ``n_views`` rows. For a shard, the number of rows in its parts.
    extracted : int
        Number of rows that this run extracted.
    dropped : int
        Number of rows of the existing store that were removed, because their images are no longer in the source.
    exif_rotated : int
        Number of images that were rotated or mirrored as their EXIF orientation says.
    failures : list of (path, reason)
        Images that could not be read.
    unchecked : list of (path, reason)
        Images that have features already and whose files could not be read in this run, although they exist. Their
        features were kept.
    conflicts : list of (path, path)
        Pairs of files that have the same bytes but different classes.
    seconds : float
        Duration of the run in seconds.
    precision : str
        The precision class that was used.
    range : str
        ``range`` of the spec: which values are black and white in images of more than 8 bits.
    remarks : dict of str to int
        Number of images by what a person should know about their pixels. ``narrow``: the values fill less than an
        eighth of the range. ``clipped``: values outside the range became black or white. ``transparent``: a
        transparency that is 0 everywhere was ignored. ``not_finite``: NaN or infinity became black.
    agreement : dict
        Mean cosine similarity to fp32 by feature name. It is empty if this run did not calibrate int8.
    rates : dict
        Images per second that each stage could do alone, by stage. It is empty if nothing was extracted.
    bottleneck : str
        The slowest stage: reading, decoding, resizing, computing or writing.
    advice : str
        One sentence that names the bottleneck and says how to speed it up.
    n_views : int
        Number of rows per image.
    labels_changed, columns_changed : int
        Number of images of the existing store whose labels are different now, and number of those whose values in
        columns such as ``split`` are different now.
    listing : ListingSummary, optional
        How the source was read: its layout, the number of images in each class and split, and what was skipped or
        guessed.
    shard : str
        The shard, such as ``3/16``, if the run extracted only a shard. Then there is no store yet, and all fields that
        need the store are 0 or empty.
    """

    store: str
    rows: int
    extracted: int
    dropped: int
    exif_rotated: int
    failures: list[tuple[str, str]]
    conflicts: list[tuple[str, str]]
    seconds: float
    precision: str
    range: str = "auto"
    remarks: dict[str, int] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    advice: str = ""
    n_views: int = 1
    labels_changed: int = 0
    columns_changed: int = 0
    listing: ListingSummary | None = None
    shard: str = ""
    unchecked: list[tuple[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        lines = [
            f"ExtractReport of {self._name()}",
            f"  {pluralize(self.rows, 'row')}, {self.extracted:,} extracted in {self.seconds:.1f} s ({self.precision})",
        ]
        if self.failures:
            lines.append(f"  {pluralize(len(self.failures), 'image')} could not be read, see .failures")
        if self.advice:
            lines.append(f"  {self.advice}")
        lines += [f"  {line}" for line in (self.listing.lines() if self.listing else [])]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Show the report as a table in a notebook."""
        facts = {
            "rows": f"{self.rows:,}", "extracted": f"{self.extracted:,}", "dropped": f"{self.dropped:,}",
            "images that could not be read": f"{len(self.failures):,}", "seconds": f"{self.seconds:.1f}",
            "precision": self.precision, "speed": self.advice,
            "source": "; ".join(self.listing.lines()) if self.listing else "",
        }  # fmt: skip
        return html_table(f"ExtractReport of {self._name()}", {name: fact for name, fact in facts.items() if fact})

    def _name(self) -> str:
        return f"{self.store}, shard {self.shard}" if self.shard else self.store


def make_report(
    output: Path,
    listing: ListingSummary,
    extracted: int,
    dropped: int,
    seconds: float,
    agreement: dict[str, float],
    timings: StageTimings,
    changed: tuple[int, int],
) -> ExtractReport:
    """Make the report of a store that was just written. ``changed`` is the result of `count_changes`."""
    with Store(output) as store:
        return ExtractReport(
            store=str(output),
            rows=store.n_rows,
            extracted=extracted,
            dropped=dropped,
            exif_rotated=int(store.exif_rotated[store.view_index == 0].sum()),
            failures=store.failures,
            conflicts=_find_conflicts(store),
            seconds=seconds,
            precision=store.spec.precision,
            range=store.spec.range,
            remarks=count_remarks(store.remarks[store.view_index == 0]),
            agreement=agreement,
            rates=timings.rates,
            bottleneck=timings.bottleneck,
            advice=timings.advice,
            n_views=store.spec.n_views,
            labels_changed=changed[0],
            columns_changed=changed[1],
            listing=listing,
        )


def make_shard_report(
    output: Path,
    listing: ListingSummary,
    shard: str,
    plan: ExtractionPlan,
    spec: ExtractSpec,
    seconds: float,
    timings: StageTimings,
) -> ExtractReport:
    """Make the report of a shard that is done."""
    extracted = spec.n_views * plan.extracted
    return ExtractReport(
        store=str(output),
        rows=extracted,
        extracted=extracted,
        dropped=0,
        exif_rotated=0,
        failures=sorted(plan.failures),
        conflicts=[],
        seconds=seconds,
        precision=spec.precision,
        range=spec.range,
        rates=timings.rates,
        bottleneck=timings.bottleneck,
        advice=timings.advice,
        n_views=spec.n_views,
        listing=listing,
        shard=shard,
    )


def count_changes(old: ImageTable, new: ImageTable) -> tuple[int, int]:
    """Compare two tables. Count the images with other labels, and the images with another value in any column."""
    rows = new.paths.find(old.paths)
    old, new = old.take(np.flatnonzero(rows >= 0)), new.take(rows[rows >= 0])
    columns_differ, blank = np.zeros(len(old), bool), CategoricalArray.full("", len(old))
    for name in {*old.columns, *new.columns}:
        columns_differ |= _differs(old.columns.get(name, blank), new.columns.get(name, blank))
    return int(_differs(old.labels, new.labels).sum()), int(columns_differ.sum())


def _differs(old: CategoricalArray[Any], new: CategoricalArray[Any]) -> np.ndarray:
    codes = CategoricalArray.concatenate([old, new]).codes
    differs: np.ndarray = codes[: len(old)] != codes[len(old) :]
    return differs


def _find_conflicts(store: Store) -> list[tuple[str, str]]:
    """Find pairs of files that have equal bytes but different classes."""
    images, digests = store.image_table()
    _, group, size = np.unique(digests, return_inverse=True, return_counts=True)
    first: dict[int, int] = {}
    pairs = []
    # Only the labels of duplicate files are decoded. All labels of a million images can take gigabytes.
    for row in np.flatnonzero(size[group] > 1).tolist():
        if not images.labels[row]:
            continue  # An image without a class cannot contradict another image.
        other = first.setdefault(int(group[row]), row)
        if images.labels[row] != images.labels[other]:
            pairs.append((images.paths[other], images.paths[row]))
    return pairs
