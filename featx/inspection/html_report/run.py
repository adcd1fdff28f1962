"""What a report is about: a store, perhaps a model, and what both give, each computed once and when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError, FeatxError, ListingError, ModelError, SpecError, SpecMismatch, WeightsError
from featx.finetuning import read_logs
from featx.heads import fingerprint
from featx.inspection.advice.advisor import Advice, advise
from featx.inspection.depth_probe import ProbeReport, probe
from featx.inspection.html_report.decisions import Decisions, read_decisions
from featx.inspection.summary import describe
from featx.inspection.suspect_images.finder import suspects
from featx.inspection.suspect_images.findings import Suspects
from featx.models import Model, load_model
from featx.runtime import Compute
from featx.store import Store, is_store

MAX_LOGS = 6
"""Curves that can be told apart."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images of a store in its order, and not their views: paths, labels in words, and digests of their bytes."""

    paths: list[str]
    labels: list[str]
    digests: list[str]


@dataclass(frozen=True, eq=False)
class Run:
    """A store, a model if there is one, the folder of the images if it is known, and folders of fine-tuning logs."""

    store: Path
    model: Model | None
    root: Path | None
    logs: tuple[Path, ...]
    split_column: str | None
    compute: Compute = field(default_factory=Compute)

    @cached_property
    def fitted_here(self) -> bool:
        """Whether the model was fitted on the store's images."""
        return self.model is not None and bool(self.model.info["store"] == fingerprint(self.images.digests))

    @property
    def selection(self) -> dict[str, Any]:
        """How training rows are told from others, as `featx.fit.fit` takes it."""
        return self.model.info["selection"] if self.model and self.fitted_here else {"column": self.split_column}

    @cached_property
    def images(self) -> Images:
        """What is known of each image."""
        with Store(self.store) as store:
            views, names = store.spec.n_views, np.array([*store.classes, ""], object)
            several, codes = store.multilabel_targets, store.labels[::views]
            labels = names[codes].tolist()
            if several is not None:
                labels = [", ".join(names[:-1][row]) for row in several[::views]]
            return Images(store.paths[::views], labels, store.digests[::views])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the store holds, in numbers."""
        return describe(self.store)

    @cached_property
    def decisions(self) -> Decisions:
        """What the model says of images that it has not seen; ``DataError`` if there are none, or no model."""
        return read_decisions(self.model, self.store)

    @cached_property
    def guesses(self) -> dict[int, tuple[str, float | None]]:
        """By image: the class that the model gives it, and the probability of that; of images that were scored."""
        try:
            found = self.decisions.single("the report")
        except DataError:
            return {}
        names = np.array(found.model.classes, object)[found.guesses].tolist()
        sure = [None] * len(names) if found.scored.probabilities is None else found.confidence.tolist()
        return dict(zip(found.images.tolist(), zip(names, sure, strict=True), strict=True))

    @cached_property
    def probe(self) -> ProbeReport:
        """Every depth of the backbone, timed if its weights are here; ``DataError`` if labels do not allow it."""
        try:
            return probe(self.store, compute=self.compute, **_probe_options(self.selection))
        except (WeightsError, SpecMismatch):
            # There are none, or others of that name: every tuned backbone is called the same.
            return probe(self.store, timed=False, **_probe_options(self.selection))

    @cached_property
    def advice(self) -> Advice:
        """Which way of transfer learning fits; ``DataError`` if labels do not allow it."""
        names = {"column": "split_column", "seed": "random_state"}
        chosen = {names.get(name, name): value for name, value in self.selection.items()}
        return advise(self.store, root=self.root, probed=self.probe, **chosen)

    @cached_property
    def suspects(self) -> Suspects:
        """The images that deserve a look."""
        return suspects(self.store, split_column=self.selection.get("column"))


def open_run(
    path: str | Path,
    *,
    store: str | Path | None = None,
    root: str | Path | None = None,
    finetune: Sequence[str | Path] = (),
    split_column: str | None = None,
    compute: Compute | None = None,
) -> Run:
    """Find what belongs to a model or a store; see `featx.inspection.html_report.writer.report` for the parameters and errors."""
    path = Path(path)
    if not path.exists():
        raise ModelError(
            f"RUN of report must be a store or a model, but {path} is not there; make them with: "
            "featx extract IMAGES --output photos.h5, and featx fit photos.h5 --output photos.featx"
        )
    model = None if is_store(path) else load_model(path)
    if model is not None and "search" not in model.info:
        raise ModelError(
            f"RUN of report must be a model that featx fit chose by cross-validation, but {path} has no search, as one "
            "fitted with --stream; give its store, or fit it without --stream"
        )
    if store and model is None:
        raise SpecError(f"--store of report is for a model, but {path} is a store itself; leave it out")
    chosen = path if model is None else Path(store) if store else find_store(model, path)
    logs = tuple(map(Path, finetune)) or _logs_beside(path)
    run = Run(chosen, model, None if root is None else Path(root), logs, split_column, compute or Compute())
    _check_column(run)
    _check_root(run)
    _check_logs(run)
    return run


def _probe_options(selection: dict[str, Any]) -> dict[str, Any]:
    names = {"column": "split_column", "seed": "random_state"}
    return {names.get(name, name): value for name, value in selection.items()}


def _check_column(run: Run) -> None:
    if run.split_column and run.fitted_here:
        raise SpecError(
            f"--split-column of report is for a store alone: {run.store} is looked at by the rows that the model was "
            "fitted on; leave it out"
        )
    column = run.selection.get("column")
    with Store(run.store) as store:
        columns = store.columns
    if column is not None and column not in columns:
        known = ", ".join(columns) or "none: extract a manifest that has one"
        whose = f"the split column of {run.model.path}" if run.model and run.fitted_here else "--split-column of report"
        raise DataError(f"{whose} must be one that {run.store} has ({known}), got {column}")


def _check_root(run: Run) -> None:
    if run.root and not any((run.root / image).is_file() for image in run.images.paths):
        raise ListingError(
            f"--root of report must be the folder that the paths of {run.store} are relative to, such as "
            f"{run.images.paths[0]}; {run.root} has none of them"
        )


def _check_logs(run: Run) -> None:
    if len(run.logs) > MAX_LOGS:
        raise SpecError(
            f"--finetune of report must be given {MAX_LOGS} times at most, for curves that can be told apart, got "
            f"{len(run.logs)}"
        )
    read_logs(run.logs)


def find_store(model: Model, path: Path) -> Path:
    """The store that a model was fitted on, known by what is in it, beside the model or in the working folder.

    Of several, that of the model's own name is taken, else the first by the alphabet.
    """
    for folder in dict.fromkeys((path.parent, Path())):
        for candidate in sorted(folder.glob("*.h5"), key=lambda file: (file.stem != path.stem, file.name)):
            if is_store(candidate) and _belongs(model, candidate):
                return candidate
    raise ModelError(
        f"--store of report must be given: no .h5 file beside {path} or in the working folder has the images, views, "
        "features and columns that the model was fitted on"
    )


def _belongs(model: Model, path: Path) -> bool:
    """Whether the images, their classes, views and features, and the columns that the fit asked for are the model's."""
    info = model.info
    asked = {info["selection"].get("column"), info.get("sample_weight", "given")} - {None, "given"}
    try:
        with Store(path) as store:
            store.check_compatible(model.spec, "the model")
            # A model of an older featx does not say how many rows its store had.
            return bool(
                info.get("store_rows", store.n_rows) == store.n_rows
                and info["store"] == fingerprint(store.digests[:: store.spec.n_views])
                and {*model.classes} <= {*store.classes}
                and asked <= store.columns.keys()
            )
    except FeatxError:
        return False


def _logs_beside(path: Path) -> tuple[Path, ...]:
    folder = path.with_name(path.name + ".finetune")
    return (folder,) if (folder / "log.jsonl").is_file() else ()
