"""What a report is about: a store, perhaps a model, and what both give, each computed once and when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featx.advise import Advice, advise
from featx.errors import DataError, FeatxError, ListingError, ModelError
from featx.heads.rows import fingerprint
from featx.info import describe
from featx.model import Model, load_model
from featx.probe import ProbeReport, probe
from featx.report.decisions import Decisions, read_decisions
from featx.store import Store, is_store
from featx.suspects import Suspects, find_suspects


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
    column: str | None
    engine: str = "auto"
    device: str = "auto"

    @property
    def selection(self) -> dict[str, Any]:
        """How training rows are told from others, as `featx.fit.fit` takes it."""
        if self.model and self.model.info["store"] == fingerprint(self.images.digests):
            chosen: dict[str, Any] = self.model.info["selection"]
            return chosen
        return {"column": self.column}

    @cached_property
    def images(self) -> Images:
        """What is known of each image."""
        with Store(self.store) as store:
            views, names = store.spec.views, np.array([*store.classes, ""], object)
            several, codes = store.indicator, store.labels[::views]
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
        sure = [None] * len(names) if found.scored.probability is None else found.confidence.tolist()
        return dict(zip(found.images.tolist(), zip(names, sure, strict=True), strict=True))

    @cached_property
    def probe(self) -> ProbeReport:
        """Every depth of the trunk; ``DataError`` if labels do not allow it."""
        return probe(self.store, engine=self.engine, device=self.device, **self.selection)

    @cached_property
    def advice(self) -> Advice:
        """Which way of transfer learning fits; ``DataError`` if labels do not allow it."""
        return advise(self.store, root=self.root, probed=self.probe, **self.selection)

    @cached_property
    def suspects(self) -> Suspects:
        """The images that deserve a look."""
        return find_suspects(self.store, column=self.selection.get("column"))


def open_run(
    path: str | Path,
    *,
    store: str | Path | None = None,
    root: str | Path | None = None,
    finetune: Sequence[str | Path] = (),
    column: str | None = None,
    engine: str = "auto",
    device: str = "auto",
) -> Run:
    """Find what belongs to a model or a store; see `featx.report.report` for the parameters and errors."""
    path = Path(path)
    model = None if is_store(path) else load_model(path)
    chosen = path if model is None else Path(store) if store else find_store(model, path)
    logs = tuple(map(Path, finetune)) or _logs_beside(path)
    run = Run(chosen, model, None if root is None else Path(root), logs, column, engine, device)
    if run.root and not any((run.root / image).is_file() for image in run.images.paths):
        raise ListingError(
            f"--root of report must be the folder that the paths of {chosen} are relative to, such as "
            f"{run.images.paths[0]}; {root} has none of them"
        )
    return run


def find_store(model: Model, path: Path) -> Path:
    """The store that a model was fitted on, known by its images, beside the model or in the working folder."""
    for folder in dict.fromkeys((path.parent, Path())):
        for candidate in sorted(folder.glob("*.h5")):
            if is_store(candidate) and _belongs(model, candidate):
                return candidate
    raise ModelError(
        f"--store of report must be given: no .h5 file beside {path} or in the working folder has the features that "
        "the model was fitted on"
    )


def _belongs(model: Model, path: Path) -> bool:
    try:
        with Store(path) as store:
            store.check_has(model.spec, "the model")
            return bool(fingerprint(store.digests[:: store.spec.views]) == model.info["store"])
    except FeatxError:
        return False


def _logs_beside(path: Path) -> tuple[Path, ...]:
    folder = path.with_name(path.name + ".finetune")
    return (folder,) if (folder / "log.jsonl").is_file() else ()
