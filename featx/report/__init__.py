"""Report: all that is known of a store and a model as one page that opens from disk, without any network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from featx.atomic import replacing
from featx.errors import DataError, FeatxError
from featx.report.page import render
from featx.report.pictures import small_copies
from featx.report.run import Run, open_run
from featx.report.section import Figure, Section, percent
from featx.report.sections import (
    accuracy,
    classes,
    commands,
    confusion,
    curves,
    depth,
    extraction,
    feature_map,
    mistakes,
    reliability,
)

OF_STORE = (extraction, depth, feature_map, curves, commands)
OF_MODEL = (extraction, accuracy, depth, confusion, classes, reliability, mistakes, feature_map, curves, commands)


@dataclass(frozen=True)
class ReportFile:
    """A written report: its file, its size, and the names of its sections, and of those that could not be made."""

    path: str
    bytes: int
    sections: tuple[str, ...]
    missing: dict[str, str]
    pictures: int


def report(
    path: str | Path,
    output: str | Path,
    *,
    store: str | Path | None = None,
    root: str | Path | None = None,
    finetune: Sequence[str | Path] = (),
    column: str | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> ReportFile:
    """Write a report of a model, or of a store alone, as one HTML file."""
    run = open_run(path, store=store, root=root, finetune=finetune, column=column, engine=engine, device=device)
    sections = [made for module in (OF_MODEL if run.model else OF_STORE) if (made := _make(module, run))]
    numbers = sorted(frozenset().union(*(section.images for section in sections)))
    images = _images(run, numbers)
    name = Path(path).name
    text = render(name, _subtitle(run), _figures(run), sections, images)
    output = Path(output)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    missing = {section.name: section.note for section in sections if section.note}
    return ReportFile(str(output), output.stat().st_size, tuple(s.name for s in sections), missing, sum("copy" in image for image in images.values()))


def _make(module: ModuleType, run: Run) -> Section | None:
    made: Section | None = module.make(run)
    return made


def _subtitle(run): return "x"
def _figures(run): return []
def _images(run, numbers):
    copies = small_copies(run.root, {n: run.images.paths[n] for n in numbers}) if run.root else {}
    return {n: {"path": run.images.paths[n], "label": run.images.labels[n], **({"copy": copies[n]} if n in copies else {})} for n in numbers}
