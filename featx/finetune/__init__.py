"""Fine-tune: a model's head, and then the last layers of its trunk, from where scikit-learn left it."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from featx.atomic import blaming
from featx.bridge import ImageClassifier, from_torch
from featx.engines import Engine, make_engine
from featx.engines.torch_engine import find_device
from featx.errors import ModelError
from featx.finetune.boundary import INDEX, LOCK, ROWS, Boundary
from featx.finetune.log import Log
from featx.finetune.memory import advising_smaller_batches, keeping_memory
from featx.finetune.placement import lay_out, mixed_pays
from featx.finetune.processes import is_first, joined, own_device, wait
from featx.finetune.recipe import Recipe
from featx.finetune.start import (
    Data,
    Images,
    accuracy_of,
    check_recipe,
    head_of,
    logit_scale,
    make_module,
    read_data,
)
from featx.finetune.tail import Tail
from featx.finetune.training import Outcome, Rows, Stage
from featx.heads import linear_parts
from featx.model import Model
from featx.progress import progress_bar
from featx.spec import ExtractSpec
from featx.weights import TrunkWeights, load_for, save_beside
from featx.weights import beside as trunk_beside

__all__ = ["FinetuneReport", "Recipe", "finetune"]
RUN = "run"
"""What the run in the folder is; not there once it is done."""


@dataclass(frozen=True)
class FinetuneReport:
    """What a fine-tuning did: validation accuracy at its beginning and of what it kept, and the best epoch by stage.

    ``model`` and ``trunk`` are the files written; trunk is empty if it has not changed.
    """

    model: str
    trunk: str
    val_start: float
    val_best: float
    epochs: dict[str, int]
    log: str


def finetune(
    model: Model,
    store: str | Path,
    output: str | Path,
    recipe: Recipe | None = None,
    *,
    root: str | Path,
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    workers: int | None = None,
    mixed: bool | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> FinetuneReport:
    """Train a model further: stage 1 its head on stored features, stage 2 the last layers of the trunk too.

    Started by ``torchrun``, the processes share each batch of stage 1 and 2 among their devices.

    Both begin at the head that scikit-learn fitted, here without the images held out for validation, or at random ones,
    and end at the best validated state, the beginning included. What the frozen layers give is computed once, for every
    view that the store has. Yosinski et al. 2014, "How transferable are features in deep neural networks?", is the
    source of the two stages' order.

    Parameters
    ----------
    model : Model
        From `featx.load_model`, fitted on ``store``.
    store : path
        With the views to train on (``featx extract --views``).
    output : path
        The model to write; a changed trunk lies beside it (``tuned.trunk.safetensors``). The training log, and what a
        stopped run goes on from, is in ``OUTPUT.finetune``.
    recipe : Recipe, optional
    root : path
        The folder that the store's paths are relative to.
    weights : path, optional
        The trunk's weights, if not those known by its name.
    engine, device, workers
        As in `featx.extract.extract`; ``device`` is also that of the training.
    mixed : bool, optional
        Run the trunk's trained layers in bfloat16 where that is safe; by default on CUDA devices that have it, and on
        processors that are fast at it.
    cache : path, optional
        A folder in which what the frozen layers give is kept, gigabytes, for other splits and recipes. By default it
        lies beside the log and is removed at the end. Who finds another process filling it waits.
    overwrite : bool
        Replace a model that is there.
    progress : bool
        Show progress bars when at a terminal.

    Raises
    ------
    ModelError
        If the output, or a trunk beside it, is there already or cannot be written, nothing is to be trained, the result
        has a form that no model file takes, or ``cache`` is damaged.
    EngineError
        If the engine or device is not to be had, or a batch does not fit in memory.
    SpecError
        If the recipe trains layers that the model does not run, or has too few hidden units.
    DataError, SpecMismatch
        If images have several labels or are gone, or store and model do not belong together.
    """
    recipe, output = recipe or Recipe(), Path(output)
    if not overwrite:
        _check_absent(output)
    check_recipe(model, recipe)
    with joined(find_device(device)):
        run = _Run(model, load_for(model.spec, weights, model.path), read_data(model, store, recipe), recipe,
                   Path(root), _folder(output), engine, device,
                   workers or os.cpu_count() or 1, mixed, Path(cache) if cache else None,
                   progress and is_first())  # fmt: skip
        report = _finetune(run, output, overwrite=overwrite)
        wait()
        return report


def _check_absent(output: Path) -> None:
    """Raise ``ModelError`` if the model is there, or, but for a run that was stopped, a trunk that another may need."""
    going_on = (_folder(output) / RUN).exists()
    if there := [path for path in (output, *([] if going_on else [trunk_beside(output)])) if path.exists()]:
        raise ModelError(f"{there[0]} is there already; choose another --output, or replace it with --overwrite")


def _folder(output: Path) -> Path:
    """Where the log of a model's fine-tuning lies, and what a stopped one goes on from."""
    return output.with_name(f"{output.name}.finetune")


def _finetune(run: "_Run", output: Path, *, overwrite: bool) -> FinetuneReport:
    model, recipe = run.model, run.recipe
    base = head_of(model, run.data, run.data.train)
    scale = logit_scale(base, run.data.val)
    outcomes, module = run.train(base, run.data.train, scale, "")
    start, best = next(iter(outcomes.values())).first.accuracy, list(outcomes.values())[-1].best.accuracy
    epochs = {name: outcome.epoch for name, outcome in outcomes.items()}
    if not any(epochs.values()):
        tuned, trunk = model, run.weights
        if recipe.init == "random":  # What is kept is not that beginning.
            start = best = accuracy_of(base, run.data.val)
    else:
        if recipe.refit:
            base, module = model, run.train(model, run.data.every, scale, "refit-", epochs)[1]
        tuned, trunk = from_torch(module, base, run.weights, head="softmax")
    summary = {"recipe": dataclasses.asdict(recipe), "val_start": start, "val_best": best, "epochs": epochs}
    tuned = dataclasses.replace(tuned, info={**model.info, "finetune": summary})
    beside = trunk_beside(output) if trunk.digest != run.weights.digest else ""
    if is_first():
        if beside:
            save_beside(trunk, output)
        tuned.save(output, overwrite=overwrite)
        run.clear("*.pt", RUN)
        if not run.cache:
            run.clear(*(f"*{ending}" for ending in (ROWS, INDEX, LOCK)))
    return FinetuneReport(str(output), str(beside), start, best, epochs, str(run.folder / "log.csv"))


@dataclass
class _Run:
    model: Model
    weights: TrunkWeights
    data: Data
    recipe: Recipe
    root: Path
    folder: Path
    engine: str
    device: str
    workers: int
    mixed: bool | None
    cache: Path | None
    progress: bool

    def __post_init__(self) -> None:
        self.place = own_device(find_device(self.device))
        if is_first():
            self._begin()
        wait()
        self.log = Log(self.folder)
        # Of the first process, and of the run that is gone on with: another might find otherwise.
        self.mixed = json.loads((self.folder / RUN).read_text())["mixed"]

    def _begin(self) -> None:
        with blaming(self.folder, ModelError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._goes_on():
                self.clear("*.pt", "log.*")
                mixed = mixed_pays(self.place) if self.mixed is None else self.mixed
                (self.folder / RUN).write_text(self._identity(mixed))
            # What a killed process left half-written.
            self.clear(".*.tmp")

    def _identity(self, mixed: bool) -> str:
        """What a stopped run must have in common with this one, to be gone on from."""
        W, b = linear_parts(self.model.estimator)
        head = hashlib.sha256(W.tobytes() + b.tobytes()).hexdigest()
        every = self.data.every
        labels = hashlib.sha256(
            "\0".join([*self.model.classes, *every.digests.values()]).encode() + every.labels.tobytes()
        )
        parts = {"recipe": dataclasses.asdict(self.recipe), "head": head, "spec": self.model.spec.digest,
                 "images": self.data.training.store, "labels": labels.hexdigest(), "views": self.data.spec.digest,
                 "mixed": mixed}  # fmt: skip
        return json.dumps(parts, sort_keys=True)

    def _goes_on(self) -> bool:
        path = self.folder / RUN
        either = (False, True) if self.mixed is None else (self.mixed,)
        return path.is_file() and path.read_text() in map(self._identity, either)

    def clear(self, *patterns: str) -> None:
        """Remove files of the folder."""
        with blaming(self.folder, ModelError):
            for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
                path.unlink()

    def train(
        self, base: Model, images: Images, scale: float, prefix: str, stops: dict[str, int] | None = None
    ) -> tuple[dict[str, Outcome], ImageClassifier]:
        """Both stages on some images, from ``base`` with logits × ``scale``; with ``stops``, just so many epochs."""
        recipe = self.recipe
        module = make_module(base, self.weights, scale, recipe).to(self.place)
        lay_out(module.trunk, self.place, mixed=bool(self.mixed))
        outcomes = {}
        if recipe.head_epochs and _wanted(stops, "head"):
            rows = (_rows(images, images.features), _rows(self.data.val, self.data.val.features))
            groups = [{"params": list(module.head.parameters()), "lr": recipe.learning_rate}]
            outcomes["head"] = self._stage(prefix, "head", _Classify(module), groups, recipe.head_epochs, *rows, stops)
        first = recipe.first(max(base.spec.blocks))
        if first is not None and _wanted(stops, "trunk"):
            tail = Tail(module, first, mixed=bool(self.mixed))
            rows = (self._tail_rows(tail, images, self.data.spec.views), self._tail_rows(tail, self.data.val, 1))
            groups = tail.groups(recipe.learning_rate, recipe.trunk_factor, recipe.layer_decay)
            outcomes["trunk"] = self._stage(prefix, "trunk", tail, groups, recipe.epochs, *rows, stops)
        return outcomes, module.cpu()

    def _stage(
        self, prefix: str, name: str, model: nn.Module, groups: list[dict[str, object]], epochs: int, train: Rows,
        val: Rows, stops: dict[str, int] | None,
    ) -> Outcome:  # fmt: skip
        stage = Stage(prefix + name, model, groups, epochs, self.recipe, train, val, self.folder, self.log,
                      device=self.place, stop=stops[name] if stops else None)  # fmt: skip
        shown = progress_bar(epochs, "epoch", f"finetune {prefix}{name}", shown=self.progress)
        keeping = keeping_memory() if self.place.type == "cpu" else nullcontext()
        with advising_smaller_batches(), shown as bar, keeping:
            return stage.run(bar.update)

    def _tail_rows(self, tail: Tail, images: Images, views: int) -> Rows:
        boundary = Boundary(self.cache or self.folder, self.data.spec, tail.boundary)
        if is_first():
            # With a refit all at once, as all are to be trained on in the end; another split trains on other images.
            wanted = self.data.every if self.recipe.refit else images
            wanted_views = self.data.spec.views if self.recipe.refit or self.cache else views
            boundary.fill(self._maker(), wanted.digests, wanted_views, self.root, self.workers, progress=self.progress)
        wait()
        return _rows(images, boundary.of(images.digests.values(), views), images.features)

    def _maker(self) -> Callable[[ExtractSpec], Engine]:
        return lambda spec: make_engine(self.weights, spec, self.device, None, self.engine)


class _Classify(nn.Module):
    """The head alone, from stored features."""

    def __init__(self, module: ImageClassifier) -> None:
        super().__init__()
        self.module = module
        # The trunk has no part in it, and processes that share the work wait for every gradient that is asked for.
        module.trunk.requires_grad_(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits of pooled features (n, columns)."""
        return self.module.classify(features)


def _rows(images: Images, *inputs: object) -> Rows:
    return Rows(inputs, images.labels, images.owners)  # type: ignore[arg-type]


def _wanted(stops: dict[str, int] | None, stage: str) -> bool:
    return stops is None or stops.get(stage, 0) > 0
