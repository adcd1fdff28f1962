"""Compute the values that the sections of a report need. Each value is computed at most once, when it is needed."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError, SpecMismatch, WeightsError
from featx.heads import fingerprint
from featx.inspection.advice.advisor import Advice, advise
from featx.inspection.depth_probe import ProbeReport, probe
from featx.inspection.html_report.unseen import UnseenDecisions, read_decisions
from featx.inspection.summary import describe
from featx.inspection.suspect_images.finder import suspects
from featx.inspection.suspect_images.findings import Suspects
from featx.models import Model
from featx.runtime import Compute
from featx.store import Store


@dataclass(frozen=True, eq=False)
class StoreImages:
    """Path, label and digest of each image of a store, in the order of the store, without augmented copies.

    The labels of an image are joined by commas. An image without a label has an empty text.
    """

    paths: list[str]
    labels: list[str]
    digests: list[str]


@dataclass(frozen=True, eq=False)
class ReportContext:
    """The store and the model of a report, and everything computed from them.

    Attributes
    ----------
    store : Path
    model : Model or None
    root : Path or None
        Folder of the images.
    logs : tuple of Path
        Folders of fine-tuning logs.
    split_column : str or None
        The column that marks training images, if there is no model.
    compute : Compute
        Engine and device for timing and for class maps.
    """

    store: Path
    model: Model | None
    root: Path | None
    logs: tuple[Path, ...]
    split_column: str | None
    compute: Compute = field(default_factory=Compute)

    @cached_property
    def fitted_here(self) -> bool:
        """Whether the model was fitted on images of this store."""
        return self.model is not None and bool(self.model.info["store"] == fingerprint(self.images.digests))

    @property
    def selection(self) -> dict[str, Any]:
        """The selection of the training images, as keyword arguments of `featx.probe`."""
        if not self.model or not self.fitted_here:
            return {"split_column": self.split_column}
        names = {"column": "split_column", "seed": "random_state"}
        return {names.get(name, name): value for name, value in self.model.info["selection"].items()}

    @cached_property
    def images(self) -> StoreImages:
        """Paths, labels and digests of the images."""
        with Store(self.store) as store:
            views, names = store.spec.n_views, np.array([*store.classes, ""], object)
            targets, codes = store.multilabel_targets, store.labels[::views]
            labels = names[codes].tolist()
            if targets is not None:
                labels = [", ".join(names[:-1][row]) for row in targets[::views]]
            return StoreImages(store.paths[::views], labels, store.digests[::views])

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts about the store that ``featx info`` prints."""
        return describe(self.store)

    @cached_property
    def decisions(self) -> UnseenDecisions:
        """Decisions on images that the model was not fitted on. Raises ``DataError`` if there is no such image."""
        return read_decisions(self.model, self.store)

    @cached_property
    def predictions(self) -> dict[int, tuple[str, float | None]]:
        """Predicted class of each scored image, by number, and its probability if the model has probabilities."""
        try:
            decisions = self.decisions.require_single_label("the report")
        except DataError:
            return {}
        names = np.array(decisions.model.classes, object)[decisions.predictions].tolist()
        has_probability = decisions.scored.probabilities is not None
        confidence = decisions.confidence.tolist() if has_probability else [None] * len(names)
        return dict(zip(decisions.images.tolist(), zip(names, confidence, strict=True), strict=True))

    @cached_property
    def probe(self) -> ProbeReport:
        """Score and cost of each depth, timed if the weights are available. Raises ``DataError`` like `featx.probe`."""
        try:
            return probe(self.store, compute=self.compute, **self.selection)
        except (WeightsError, SpecMismatch):
            # The weights are missing, or belong to another backbone. All fine-tuned backbones have the same name.
            return probe(self.store, timed=False, **self.selection)

    @cached_property
    def advice(self) -> Advice:
        """The recommended way of transfer learning. Raises ``DataError`` like `featx.advise`."""
        return advise(self.store, root=self.root, probed=self.probe, **self.selection)

    @cached_property
    def suspects(self) -> Suspects:
        """Likely wrong labels, near-duplicates and outliers."""
        return suspects(self.store, split_column=self.selection.get("split_column"))
