"""Report: all that is known of a store and a model as one page that opens from disk, without any network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from featx.errors import DataError, StoreError
from featx.files import atomic_write, check_folder
from featx.inspection.html_report.page import load_templates, render
from featx.inspection.html_report.pictures import small_copies
from featx.inspection.html_report.run import Run, open_run
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections import (
    accuracy,
    advice,
    classes,
    commands,
    confusion,
    curves,
    depth,
    extraction,
    feature_map,
    mistakes,
    reliability,
    suspects,
)
from featx.runtime import Compute, progress_bar

__all__ = ["ReportFile", "report"]
SECTIONS = (extraction, accuracy, depth, advice, confusion, classes, reliability, mistakes, suspects, feature_map,
            curves, commands)  # fmt: skip
"""In the order of the page."""
OF_MODEL = (accuracy, confusion, classes, reliability, mistakes)
"""Those that are about a model's decisions."""


@dataclass(frozen=True)
class ReportFile:
    """A report that was written: its file and size, the names of its sections, what they lack, and its images.

    ``missing`` says why, by section, where there is nothing to show.
    """

    path: str
    bytes: int
    sections: tuple[str, ...]
    missing: dict[str, str]
    images: int


def report(
    path: str | Path,
    output: str | Path,
    compute: Compute | None = None,
    *,
    store: str | Path | None = None,
    root: str | Path | None = None,
    finetune: Sequence[str | Path] = (),
    split_column: str | None = None,
) -> ReportFile:
    """Write a report of a model, or of a store alone, as one HTML file that needs no network.

    Parameters
    ----------
    path : path
        A model, or a store, of which the report has no decisions.
    output : path
        The file to write, ``report.html``; one that is there is replaced.
    compute : Compute, optional
        Engine and device that are timed, and whether a progress bar is shown.
    store : path, optional
        The model's store; by default the ``.h5`` file beside the model, or in the working folder, that has the images
        and the features that it was fitted on.
    root : path, optional
        The folder that the store's paths are relative to; without it the report shows no images.
    finetune : sequence of paths
        Folders of fine-tuning logs; by default the one beside the model, if there is one.
    split_column : str, optional
        The split column whose training rows are examined, if ``path`` is a store.

    Raises
    ------
    StoreError, ModelError
        If a file cannot be read or written, or the model's store is not to be found.
    SpecError
        If an option is given that would do nothing, or there are too many logs.
    SpecMismatch
        If store and model have other features.
    DataError
        If the store has no such split column, or a folder no training log.
    ListingError
        If ``root`` has none of the images.
    EngineError
        If a package or the device is not there.
    """
    output, templates = Path(output), load_templates()
    check_folder(output, StoreError)
    compute = compute or Compute()
    run = open_run(path, store=store, root=root, finetune=finetune, split_column=split_column, compute=compute)
    modules = [module for module in SECTIONS if run.model or module not in OF_MODEL]
    sections = []
    with progress_bar(len(modules), "section", f"report {path}", shown=compute.progress) as bar:
        for module in modules:
            sections += _make(module, run)
            bar.update()
    images = _images(run, sorted(frozenset[int]().union(*(section.images for section in sections))))
    text = render(templates, Path(path).name, _subtitle(run), sections, images)
    with atomic_write(output, StoreError) as temporary:
        # Names of files need not be UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    names = tuple(section.name for section in sections)
    missing = {section.name: section.note for section in sections if section.note}
    return ReportFile(
        str(output), output.stat().st_size, names, missing, sum("copy" in image for image in images.values())
    )


def _make(module: ModuleType, run: Run) -> list[Section]:
    """A section; one that the data do not allow says why, and there is none of nothing."""
    try:
        made: Section | None = module.make(run)
    except DataError as error:
        made = Section(module.__name__.rsplit(".", 1)[-1], module.TITLE, note=str(error))
    return [made] if made else []


def _subtitle(run: Run) -> str:
    about = f"{run.model.head} on blocks {run.model.info['search']['best']['feature_set']} of " if run.model else ""
    return f"{about}{run.store}"


def _images(run: Run, numbers: Iterable[int]) -> dict[int, dict[str, str]]:
    """What the page knows of the images that it shows, by their numbers."""
    paths = {number: run.images.paths[number] for number in numbers}
    copies = small_copies(run.root, paths) if run.root else {}
    guesses = run.guesses
    images: dict[int, dict[str, Any]] = {}
    for number, path in paths.items():
        images[number] = {"path": path, "label": run.images.labels[number]}
        if number in guesses:
            guess, sure = guesses[number]
            images[number] |= {"guess": guess} | ({"sure": percent(sure, 0)} if sure is not None else {})
        if number in copies:
            images[number]["copy"] = copies[number]
    return images
