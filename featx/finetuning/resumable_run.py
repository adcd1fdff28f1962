"""Run a fine-tuning that can be stopped and resumed: its folder, and both stages of training."""

import dataclasses
import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from featx.backbones import BackboneWeights
from featx.engines import Engine, find_device, make_engine
from featx.errors import ModelError
from featx.files import wrap_os_error, wrap_read_errors
from featx.finetuning.activation_cache import INDEX, LOCK, ROWS, ActivationCache
from featx.finetuning.distributed import is_main_process, local_device, wait_for_all
from featx.finetuning.performance import (
    amp_is_faster,
    configure_convolutions,
    keep_freed_memory,
    suggest_smaller_batches,
)
from featx.finetuning.recipe import Recipe
from featx.finetuning.stage import Stage, StageOutcome
from featx.finetuning.starting_point import FinetuneData, ImageSubset, make_classifier
from featx.finetuning.trainable_layers import HeadOnly, TrainableLayers
from featx.finetuning.training_examples import TrainingExamples
from featx.finetuning.training_log import TrainingLog
from featx.heads import linear_parts
from featx.models import ImageClassifier, Model
from featx.runtime import Compute, progress_bar
from featx.spec import ExtractSpec

RUN = "run"
"""File that identifies a run in its folder; removed when the run is done."""


def run_folder(output: Path) -> Path:
    """Return the folder of a fine-tuning, which holds its log and the state to resume from."""
    return output.with_name(f"{output.name}.finetune")


@dataclass
class FinetuneRun:
    """One fine-tuning. It resumes a stopped run if everything that decides the result is the same.

    Parameters
    ----------
    model : Model
        The model to start from.
    weights : BackboneWeights
    data : FinetuneData
    recipe : Recipe
    root : Path
        Folder that the store's paths are relative to.
    folder : Path
        Folder of the log, the state to resume from, and the activation cache.
    compute : Compute
    cache : Path, optional
        Folder for an activation cache that is kept after the run.
    """

    model: Model
    weights: BackboneWeights
    data: FinetuneData
    recipe: Recipe
    root: Path
    folder: Path
    compute: Compute
    cache: Path | None

    def __post_init__(self) -> None:
        self.device = local_device(find_device(self.compute.device))
        if is_main_process():
            self._prepare_folder()
        wait_for_all()
        self.log = TrainingLog(self.folder)
        # Read the precision from the file. The main process, or the run that was stopped, chose it for all processes.
        self.amp = bool(json.loads((self.folder / RUN).read_text())["recipe"]["amp"])

    def _prepare_folder(self) -> None:
        """Keep the folder of a stopped run that can be resumed; otherwise empty it and start a new run."""
        with wrap_os_error(self.folder, ModelError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._can_resume():
                self._remove("*.pt", "log.*")
                amp = amp_is_faster(self.device) if self.recipe.amp is None else self.recipe.amp
                (self.folder / RUN).write_text(self._identity(amp))
            self._remove(".*.tmp")  # half-written files of a killed process

    def _can_resume(self) -> bool:
        path = self.folder / RUN
        choices = (False, True) if self.recipe.amp is None else (self.recipe.amp,)
        with wrap_read_errors(path, ModelError, self._damaged):
            return path.is_file() and path.read_text() in map(self._identity, choices)

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(f"{self.folder / RUN} is damaged ({error}); remove {self.folder} to start again")

    def _identity(self, amp: bool) -> str:
        """Describe everything that decides the result, as JSON."""
        W, b = linear_parts(self.model.estimator)
        images = self.data.all
        labels = "\0".join([*self.model.classes, *images.digests.values()]).encode() + images.labels.tobytes()
        parts = {
            "recipe": {**dataclasses.asdict(self.recipe), "amp": amp},
            "head": hashlib.sha256(W.tobytes() + b.tobytes()).hexdigest(),
            "spec": self.model.spec.digest,
            "images": self.data.training.store_fingerprint,
            "labels": hashlib.sha256(labels).hexdigest(),
            "views": self.data.spec.digest,
        }
        return json.dumps(parts, sort_keys=True)

    def finish(self) -> None:
        """Remove everything from the folder except the log and a cache that is kept."""
        self._remove("*.pt", RUN)
        if not self.cache:
            self._remove(*(f"*{suffix}" for suffix in (ROWS, INDEX, LOCK)))

    def _remove(self, *patterns: str) -> None:
        with wrap_os_error(self.folder, ModelError):
            for path in [path for pattern in patterns for path in self.folder.glob(pattern)]:
                path.unlink()

    def train(
        self, base: Model, images: ImageSubset, scale: float, prefix: str = "", epochs: dict[str, int] | None = None
    ) -> tuple[dict[str, StageOutcome], ImageClassifier]:
        """Train both stages on some of the images.

        Parameters
        ----------
        base : Model
            The model whose head is the starting point. Its logits are multiplied by ``scale``.
        images : ImageSubset
        scale : float
        prefix : str
            Prefix of the stage names in the log.
        epochs : dict, optional
            Epochs of each stage. They are trained without validation, and a stage with 0 epochs is left out. By
            default each stage trains the epochs of the recipe with validation.

        Returns
        -------
        outcomes : dict
            Outcome of each stage by its name, ``head`` and ``backbone``.
        classifier : ImageClassifier
            The trained classifier, on the CPU.
        """
        recipe, planned, outcomes = self.recipe, epochs, {}
        if planned is None:
            planned = {"head": recipe.head_epochs, "backbone": recipe.epochs}
        classifier = make_classifier(base, self.weights, scale, recipe).to(self.device)
        configure_convolutions(classifier.backbone, self.device, amp=self.amp)
        if planned.get("head"):
            groups: list[dict[str, object]] = [{"params": list(classifier.head.parameters()), "lr": recipe.lr}]
            train, val = (_examples(subset, subset.features) for subset in (images, self.data.val))
            stage = Stage(prefix + "head", HeadOnly(classifier), groups, planned["head"], recipe, train, val, self.log,
                          device=self.device, validate=epochs is None)  # fmt: skip
            outcomes["head"] = self._run_stage(stage)
        first_layer = recipe.first_trained_layer(max(base.spec.blocks))
        if first_layer is not None and planned.get("backbone"):
            layers = TrainableLayers(classifier, first_layer, amp=self.amp)
            train = self._activations(layers.frozen_block, images, self.data.spec.n_views)
            val = self._activations(layers.frozen_block, self.data.val, 1)
            groups = layers.parameter_groups(recipe)
            stage = Stage(prefix + "backbone", layers, groups, planned["backbone"], recipe, train, val, self.log,
                          device=self.device, validate=epochs is None)  # fmt: skip
            outcomes["backbone"] = self._run_stage(stage)
        return outcomes, classifier.cpu()

    def _run_stage(self, stage: Stage) -> StageOutcome:
        shown = self.compute.progress and is_main_process()
        memory = keep_freed_memory() if self.device.type == "cpu" else nullcontext()
        bar = progress_bar(stage.epochs, "epoch", f"finetune {stage.name}", shown=shown)
        with suggest_smaller_batches(), bar as shown_bar, memory:
            return stage.run(shown_bar.update)

    def _activations(self, block: int, images: ImageSubset, n_views: int) -> TrainingExamples:
        """Return the output of a block for some images, and their features. Compute the output that the cache lacks."""
        cache = ActivationCache(self.cache or self.folder, self.data.spec, block)
        if is_main_process():
            # A refit trains on all images in the end, so compute them all now. A cache that is kept gets all copies,
            # because another split trains on the images that this one validates on.
            wanted = self.data.all if self.recipe.refit else images
            wanted_views = self.data.spec.n_views if self.recipe.refit or self.cache else n_views
            cache.fill(self._make_engine, wanted.digests, wanted_views, self.root, self.compute)
        wait_for_all()
        return _examples(images, cache.select(images.digests.values(), n_views), images.features)

    def _make_engine(self, spec: ExtractSpec) -> Engine:
        compute = self.compute
        return make_engine(self.weights, spec, compute.device, compute.batch_size, compute.engine)


def _examples(images: ImageSubset, *inputs: object) -> TrainingExamples:
    return TrainingExamples(inputs, images.labels, images.image_ids)  # type: ignore[arg-type]
