"""What an extraction did, and where its time went."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featx.engines import Timings
from featx.extraction.update import ExtractionPlan
from featx.spec import ExtractSpec
from featx.store import Store
from featx.table import CategoricalArray, ImageTable


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    ``rows`` are in the store now, one for each view of an image, of which ``extracted`` are new; ``dropped`` were there
    and have gone; ``turned`` images had an EXIF orientation applied; ``failures`` are (path, reason); ``conflicts`` are
    pairs of files with the same bytes in different classes. ``precision`` is the class that was taken, ``agreement``
    the mean cosine of each feature to fp32 if int8 was calibrated now. ``rates`` are images a second that each stage
    could do were it alone, ``advice`` says which holds up the others and what would help; both are empty if nothing was
    extracted. ``views`` are the rows of an image. Of images that were there and are kept, ``relabeled`` have other
    labels now, and ``resplit`` other values in columns such as ``split``. Of a ``shard`` there is no store yet:
    ``rows`` are those of its parts, and what only the store can tell is 0 or empty.
    """

    store: str
    rows: int
    extracted: int
    dropped: int
    turned: int
    failures: list[tuple[str, str]]
    conflicts: list[tuple[str, str]]
    seconds: float
    precision: str
    agreement: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    advice: str = ""
    n_views: int = 1
    relabeled: int = 0
    resplit: int = 0
    shard: str = ""


def make_report(
    output: Path,
    extracted: int,
    dropped: int,
    seconds: float,
    agreement: dict[str, float],
    timings: Timings,
    changed: tuple[int, int],
) -> ExtractReport:
    """The report of a store that has just been written; ``changed`` is what `count_changed` counted."""
    with Store(output) as store:
        return ExtractReport(
            store=str(output),
            rows=store.n_rows,
            extracted=extracted,
            dropped=dropped,
            turned=int(store.exif_rotated[store.view_index == 0].sum()),
            failures=store.failures,
            conflicts=_conflicts(store),
            seconds=seconds,
            precision=store.spec.precision,
            agreement=agreement,
            rates=timings.rates,
            advice=timings.advice,
            n_views=store.spec.n_views,
            relabeled=changed[0],
            resplit=changed[1],
        )


def make_shard_report(
    output: Path, shard: str, ledger: ExtractionPlan, spec: ExtractSpec, seconds: float, timings: Timings
) -> ExtractReport:
    """The report of a shard that is done."""
    extracted = spec.n_views * ledger.extracted
    return ExtractReport(
        store=str(output), rows=extracted, extracted=extracted, dropped=0, turned=0, failures=sorted(ledger.failures),
        conflicts=[], seconds=seconds, precision=spec.precision, rates=timings.rates, advice=timings.advice,
        n_views=spec.n_views, shard=shard,
    )  # fmt: skip


def count_changed(old: ImageTable, new: ImageTable) -> tuple[int, int]:
    """Of how many images that are in both the labels differ, and of how many a value of a split column."""
    at = new.paths.find(old.paths)
    old, new = old.take(np.flatnonzero(at >= 0)), new.take(at[at >= 0])
    resplit, blank = np.zeros(len(old), bool), CategoricalArray.full("", len(old))
    for name in {*old.columns, *new.columns}:
        resplit |= _differs(old.columns.get(name, blank), new.columns.get(name, blank))
    return int(_differs(old.labels, new.labels).sum()), int(resplit.sum())


def _differs(old: CategoricalArray[Any], new: CategoricalArray[Any]) -> np.ndarray:
    codes = CategoricalArray.concatenate([old, new]).codes
    differs: np.ndarray = codes[: len(old)] != codes[len(old) :]
    return differs


def _conflicts(store: Store) -> list[tuple[str, str]]:
    """Pairs of files with equal bytes in different classes."""
    images, digests = store.image_table()
    _, of, count = np.unique(digests, return_inverse=True, return_counts=True)
    first: dict[int, int] = {}
    pairs = []
    # Of several hundred labels an image, a million images would be gigabytes of objects: the few are looked at.
    for row in np.flatnonzero(count[of] > 1).tolist():
        if not images.labels[row]:
            continue  # no class is none that could differ
        other = first.setdefault(int(of[row]), row)
        if images.labels[row] != images.labels[other]:
            pairs.append((images.paths[other], images.paths[row]))
    return pairs
