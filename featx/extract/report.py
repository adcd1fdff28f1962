"""What an extraction did, and where its time went."""

from dataclasses import dataclass, field
from pathlib import Path

from featx.engines.timings import Timings
from featx.store import Store


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    ``rows`` are in the store now, one for each view of an image, of which ``extracted`` are new; ``dropped`` were there
    and have gone; ``turned`` images had an EXIF orientation applied; ``failures`` are (path, reason); ``conflicts`` are
    pairs of files with the same bytes in different classes. ``precision`` is the class that was taken, ``agreement``
    the mean cosine of each feature to fp32 if int8 was calibrated now. ``rates`` are images a second that each stage
    could do were it alone, ``advice`` says which holds up the others and what would help; both are empty if nothing was
    extracted.
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


def make_report(
    output: Path, extracted: int, dropped: int, seconds: float, agreement: dict[str, float], timings: Timings
) -> ExtractReport:
    """The report of a store that has just been written."""
    with Store(output) as store:
        return ExtractReport(
            store=str(output),
            rows=store.rows,
            extracted=extracted,
            dropped=dropped,
            turned=int(store.turned[store.views == 0].sum()),
            failures=store.failures,
            conflicts=_conflicts(store),
            seconds=seconds,
            precision=store.spec.precision,
            agreement=agreement,
            rates=timings.rates,
            advice=timings.advice,
        )


def _conflicts(store: Store) -> list[tuple[str, str]]:
    """Pairs of files with equal bytes in different classes."""
    first: dict[str, tuple[str, object]] = {}
    pairs = []
    columns = (store.paths, store.digests, store.targets.tolist())
    for path, digest, label in zip(*(column[:: store.spec.views] for column in columns), strict=True):
        other, other_label = first.setdefault(digest, (path, label))
        if label != other_label:
            pairs.append((other, path))
    return pairs
