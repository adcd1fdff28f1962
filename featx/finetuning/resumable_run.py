"""A run of fine-tuning: its folder, which a stopped one goes on from, and both stages on some images."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from joblib import cpu_count
from torch import nn

from featx.backbones import BackboneWeights
from featx.engines import Engine, find_device, make_engine
from featx.errors import ModelError
from featx.files import wrap_os_error
from featx.finetuning.activation_cache import INDEX, LOCK, ROWS, Boundary
from featx.finetuning.distributed import is_first, own_device, wait
from featx.finetuning.memory import advising_smaller_batches, keeping_memory
from featx.finetuning.placement import configure_convolutions, mixed_pays
from featx.finetuning.recipe import Recipe
from featx.finetuning.stage import Outcome, Rows, Stage
from featx.finetuning.starting_point import Data, Images, make_module
from featx.finetuning.trainable_layers import Tail
from featx.finetuning.training_log import Log
from featx.heads import linear_parts
from featx.images import MAX_PIXELS
from featx.models import ImageClassifier, Model
from featx.runtime import Compute, progress_bar
from featx.spec import ExtractSpec

RUN = "run"
"""What the run in the folder is; not there once it is done."""


def run_folder(output: Path) -> Path:
    """Where the log of a model's fine-tuning lies, and what a stopped one goes on from."""
    return output.with_name(f"{output.name}.finetune")


@dataclass
class Run:
    """One fine-tuning: what it trains, on what and where, and its folder.

    A run that was stopped is gone on with, if all that decides its result is as it was.
    """

    model: Model
    weights: BackboneWeights
    data: Data
    recipe: Recipe
    root: Path
    folder: Path
    compute: Compute
    cache: Path | None

    def __post_init__(self) -> None:
        self.place = own_device(find_device(self.compute.device))
        if is_first():
            self._begin()
        wait()
        self.log = Log(self.folder)
        # Of the first process, and of the run that is gone on with: another might find otherwise.
        self.mixed = bool(json.loads((self.folder / RUN).read_text())["recipe"]["amp"])

    def _begin(self) -> None:
        with wrap_os_error(self.folder, ModelError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._goes_on():
                self._clear("*.pt", "log.*")
                amp = mixed_pays(self.place) if self.recipe.amp is None else self.recipe.amp
                (self.folder / RUN).write_text(self._identity(amp))
            # What a killed process left half-written.
            self._clear(".*.tmp")

    def _identity(self, amp: bool) -> str:
        """What a stopped run must have in common with this one, to be gone on from."""
        W, b = linear_parts(self.model.estimator)
        head = hashlib.sha256(W.tobytes() + b.tobytes()).hexdigest()
        every = self.data.every
        labels = hashlib.sha256(
            "\0".join([*self.model.classes, *every.digests.values()]).encode() + every.labels.tobytes()
        )
        parts = {"recipe": {**dataclasses.asdict(self.recipe), "amp": amp}, "head": head, "spec": self.model.spec.digest,
                 "images": self.data.training.store_fingerprint, "labels": labels.hexdigest(), "views": self.data.spec.digest}  # fmt: skip
        return json.dumps(parts, sort_keys=True)

    def _goes_on(self) -> bool:
        path = self.folder / RUN
        either = (False, True) if self.recipe.amp is None else (self.recipe.amp,)
        return path.is_file() and path.read_text() in map(self._identity, either)

    def end(self) -> None:
        """Leave nothing but the log."""
        self._clear("*.pt", RUN)
        if not self.cache:
            self._clear(*(f"*{ending}" for ending in (ROWS, INDEX, LOCK)))

    def _clear(self, *patterns: str) -> None:
        """Remove files of the folder."""
        with wrap_os_error(self.folder, ModelError):
            for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
                path.unlink()

    def train(
        self, base: Model, images: Images, scale: float, prefix: str, stops: dict[str, int] | None = None
    ) -> tuple[dict[str, Outcome], ImageClassifier]:
        """Both stages on some images, from ``base`` with logits × ``scale``; with ``stops``, just so many epochs."""
        recipe = self.recipe
        module = make_module(base, self.weights, scale, recipe).to(self.place)
        configure_convolutions(module.backbone, self.place, mixed=self.mixed)
        outcomes = {}
        if recipe.head_epochs and _wanted(stops, "head"):
            rows = (_rows(images, images.features), _rows(self.data.val, self.data.val.features))
            groups = [{"params": list(module.head.parameters()), "lr": recipe.lr}]
            outcomes["head"] = self._stage(prefix, "head", _Classify(module), groups, recipe.head_epochs, *rows, stops)
        first = recipe.first(max(base.spec.blocks))
        if first is not None and _wanted(stops, "backbone"):
            tail = Tail(module, first, mixed=self.mixed)
            rows = (self._tail_rows(tail, images, self.data.spec.n_views), self._tail_rows(tail, self.data.val, 1))
            groups = tail.groups(recipe.lr, recipe.backbone_lr_scale, recipe.layer_decay)
            outcomes["backbone"] = self._stage(prefix, "backbone", tail, groups, recipe.epochs, *rows, stops)
        return outcomes, module.cpu()

    def _stage(
        self, prefix: str, name: str, model: nn.Module, groups: list[dict[str, object]], epochs: int, train: Rows,
        val: Rows, stops: dict[str, int] | None,
    ) -> Outcome:  # fmt: skip
        stage = Stage(prefix + name, model, groups, epochs, self.recipe, train, val, self.folder, self.log,
                      device=self.place, stop=stops[name] if stops else None)  # fmt: skip
        shown = progress_bar(epochs, "epoch", f"finetune {prefix}{name}", shown=self.compute.progress and is_first())
        keeping = keeping_memory() if self.place.type == "cpu" else nullcontext()
        with advising_smaller_batches(), shown as bar, keeping:
            return stage.run(bar.update)

    def _tail_rows(self, tail: Tail, images: Images, views: int) -> Rows:
        boundary = Boundary(self.cache or self.folder, self.data.spec, tail.boundary)
        if is_first():
            # With a refit all at once, as all are to be trained on in the end; another split trains on other images.
            wanted = self.data.every if self.recipe.refit else images
            wanted_views = self.data.spec.n_views if self.recipe.refit or self.cache else views
            boundary.fill(self._maker(), wanted.digests, wanted_views, self.root, self.compute.workers or cpu_count(),
                          self.compute.max_pixels or MAX_PIXELS, progress=self.compute.progress)  # fmt: skip
        wait()
        return _rows(images, boundary.of(images.digests.values(), views), images.features)

    def _maker(self) -> Callable[[ExtractSpec], Engine]:
        how = self.compute
        return lambda spec: make_engine(self.weights, spec, how.device, how.batch_size, how.engine)


class _Classify(nn.Module):
    """The head alone, from stored features."""

    def __init__(self, module: ImageClassifier) -> None:
        super().__init__()
        self.module = module
        # The backbone has no part in it, and processes that share the work wait for every gradient that is asked for.
        module.backbone.requires_grad_(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of pooled features (n, columns)."""
        return self.module.classify(features)


def _rows(images: Images, *inputs: object) -> Rows:
    return Rows(inputs, images.labels, images.owners)  # type: ignore[arg-type]


def _wanted(stops: dict[str, int] | None, stage: str) -> bool:
    return stops is None or stops.get(stage, 0) > 0
