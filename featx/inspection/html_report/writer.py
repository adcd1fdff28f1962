"""Write a report: all results for a model and its store, on one page that needs no network."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featx.errors import DataError, StoreError
from featx.files import atomic_write, check_folder
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.inputs import open_context
from featx.inspection.html_report.page import encode_thumbnails, load_templates, render
from featx.inspection.html_report.section import Section, percent
from featx.inspection.html_report.sections.accuracy import make_accuracy
from featx.inspection.html_report.sections.classes import make_classes, make_confusion
from featx.inspection.html_report.sections.commands import make_commands
from featx.inspection.html_report.sections.extraction import make_extraction
from featx.inspection.html_report.sections.image_map import make_image_map
from featx.inspection.html_report.sections.images import make_mistakes, make_suspects
from featx.inspection.html_report.sections.reliability import make_reliability
from featx.inspection.html_report.sections.transfer import make_advice, make_depth, make_finetuning
from featx.runtime import Compute, pluralize, progress_bar
from featx.spec import ValueRange

Maker = Callable[[ReportContext], Section | None]
SECTIONS: dict[str, tuple[str, Maker]] = {
    "extraction": ("Images and features", make_extraction),
    "accuracy": ("Accuracy", make_accuracy),
    "depth": ("Depth", make_depth),
    "advice": ("Recommendation", make_advice),
    "confusion": ("Confusion matrix", make_confusion),
    "classes": ("Scores by class", make_classes),
    "reliability": ("Reliability", make_reliability),
    "mistakes": ("Confident mistakes", make_mistakes),
    "suspects": ("Suspicious images", make_suspects),
    "image_map": ("Map of the images", make_image_map),
    "finetuning": ("Fine-tuning", make_finetuning),
    "commands": ("Commands", make_commands),
}
"""Title and maker of each section, in the order of the page."""
NEED_MODEL = {"accuracy", "confusion", "classes", "reliability", "mistakes"}


@dataclass(frozen=True)
class ReportFile:
    """A report that was written.

    Attributes
    ----------
    path : str
    bytes : int
    sections : tuple of str
        Names of the sections.
    missing : dict of str to str
        Reason why a section is empty, by name of the section.
    images : int
        Number of images that the page shows.
    """

    path: str
    bytes: int
    sections: tuple[str, ...]
    missing: dict[str, str]
    images: int

    def __repr__(self) -> str:
        counts = f"{pluralize(len(self.sections), 'section')}, {pluralize(self.images, 'image')}"
        empty = f"; empty: {', '.join(self.missing)}" if self.missing else ""
        return f"ReportFile({self.path!r}, {counts}, {self.bytes / 1e6:.1f} MB{empty})"


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
    """Write a report of a model, or of a store without a model, as one HTML file that needs no network.

    Parameters
    ----------
    path : path
        A model or a store. The report of a store has no sections about decisions.
    output : path
        The file to write, such as ``report.html``. An existing file is replaced.
    compute : Compute, optional
        Engine and device that the backbone is timed on, and whether a progress bar is shown.
    store : path, optional
        The store of the model. By default, featx looks beside the model and in the working folder for a ``.h5`` file
        with the images and features that the model was fitted on.
    root : path, optional
        The folder that the paths of the store are relative to. Without it, the report shows no images.
    finetune : sequence of paths
        Folders of fine-tuning logs; by default ``MODEL.finetune``, if it exists.
    split_column : str, optional
        The split column whose training images are examined, if ``path`` is a store.

    Returns
    -------
    ReportFile

    Raises
    ------
    StoreError, ModelError
        If a file cannot be read or written, or the store of the model is not found.
    SpecError
        If an option or a field of ``compute`` has no effect, or there are too many logs.
    SpecMismatch
        If the store lacks features that the model needs.
    DataError
        If the store has no such split column, or a folder has no training log.
    ListingError
        If ``root`` contains none of the images.
    EngineError
        If a package or the device is not available.
    """
    output, templates, compute = Path(output), load_templates(), compute or Compute()
    compute.check_unused("report", "batch_size", "workers", "max_pixels", "executor", "shard")
    check_folder(output, StoreError)
    context = open_context(path, store=store, root=root, finetune=finetune, split_column=split_column, compute=compute)
    names = [name for name in SECTIONS if context.model or name not in NEED_MODEL]
    sections = []
    with progress_bar(len(names), "section", f"report {path}", shown=compute.progress) as bar:
        for name in names:
            sections += _make_section(name, context)
            bar.update()
    images = _image_data(context, sorted(frozenset[int]().union(*(section.images for section in sections))))
    text = render(templates, Path(path).name, _subtitle(context), sections, images)
    with atomic_write(output, StoreError) as temporary:
        # File names may contain bytes that are not UTF-8.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    missing = {section.name: section.note for section in sections if section.note}
    shown = sum("copy" in image for image in images.values())
    return ReportFile(str(output), output.stat().st_size, tuple(section.name for section in sections), missing, shown)


def _make_section(name: str, context: ReportContext) -> list[Section]:
    """Make a section. If the data do not allow it, the section gets a note that says why."""
    title, make = SECTIONS[name]
    try:
        section = make(context)
    except DataError as error:
        section = Section(note=str(error))
    return [replace(section, name=name, title=title)] if section else []


def _subtitle(context: ReportContext) -> str:
    model = context.model
    prefix = f"{model.head} head on blocks {model.info['search']['best']['feature_set']} of " if model else ""
    return f"{prefix}{context.store}"


def _image_data(context: ReportContext, numbers: Iterable[int]) -> dict[int, dict[str, str]]:
    """Collect the values that the script of the page needs for each image, by image number."""
    paths = {number: context.images.paths[number] for number in numbers}
    value_range = ValueRange.parse(context.facts["spec"]["range"])
    thumbnails = encode_thumbnails(context.root, paths, value_range) if context.root else {}
    images = {}
    for number, path in paths.items():
        image = {"path": path, "label": context.images.labels[number]}
        if number in context.predictions:
            predicted, confidence = context.predictions[number]
            image["predicted"] = predicted
            if confidence is not None:
                image["confidence"] = percent(confidence, 0)
        if number in thumbnails:
            image["copy"] = thumbnails[number]
        images[number] = image
    return images
