"""Fine-tune: a model's head, and then the last layers of its backbone, from where scikit-learn left it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from featx.engines import find_device, finetuned_path, load_backbone_for, save_finetuned
from featx.errors import ModelError
from featx.finetuning.distributed import is_first, joined, wait
from featx.finetuning.recipe import Recipe
from featx.finetuning.resumable_run import RUN, Run, run_folder
from featx.finetuning.starting_point import accuracy_of, check_recipe, head_of, logit_scale, read_data
from featx.models import Model, from_torch
from featx.runtime import Compute

__all__ = ["FinetuneReport", "Recipe", "finetune"]


@dataclass(frozen=True)
class FinetuneReport:
    """What a fine-tuning did: validation accuracy at its beginning and of what it kept, and the best epoch by stage.

    ``model`` and ``backbone`` are the files written; backbone is empty if it has not changed.
    """

    model: str
    backbone: str
    val_start: float
    val_best: float
    epochs: dict[str, int]
    log: str


def finetune(
    model: Model,
    store: str | Path,
    output: str | Path,
    recipe: Recipe | None = None,
    compute: Compute | None = None,
    *,
    root: str | Path,
    weights: str | Path | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
) -> FinetuneReport:
    """Train a model further: stage 1 its head on stored features, stage 2 the last layers of the backbone too.

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
        With the views to train on (``featx extract --n-views``).
    output : path
        The model to write; a changed backbone lies beside it (``tuned.backbone.safetensors``). The training log, and what a
        stopped run goes on from, is in ``OUTPUT.finetune``.
    recipe : Recipe, optional
    compute : Compute, optional
        Engine, device, batch size, workers and pixel limit for the frozen layers; ``device`` also trains.
    root : path
        The folder that the store's paths are relative to.
    weights : path, optional
        The backbone's weights, if not those known by its name.
    cache : path, optional
        A folder in which what the frozen layers give is kept, gigabytes, for other splits and recipes. By default it
        lies beside the log and is removed at the end. Who finds another process filling it waits.
    overwrite : bool
        Replace a model that is there.

    Raises
    ------
    ModelError
        If the output, or a backbone beside it, is there already or cannot be written, nothing is to be trained, the result
        has a form that no model file takes, or ``cache`` is damaged.
    EngineError
        If the engine or device is not to be had, or a batch does not fit in memory.
    SpecError
        If the recipe trains layers that the model does not run, or has too few hidden units.
    DataError, SpecMismatch
        If images have several labels or are gone, torch has trained the model already, or store and model do not
        belong together.
    """
    recipe, compute, output = recipe or Recipe(), compute or Compute(), Path(output)
    if not overwrite:
        _check_absent(output)
    check_recipe(model, recipe)
    with joined(find_device(compute.device)):
        run = Run(model, load_backbone_for(model.spec, weights, model.path), read_data(model, store, recipe), recipe,
                   Path(root), run_folder(output), compute, Path(cache) if cache else None)  # fmt: skip
        report = _finetune(run, output, overwrite=overwrite)
        wait()
        return report


def _check_absent(output: Path) -> None:
    """Raise ``ModelError`` if the model is there, or, but for a run that was stopped, a backbone that another may need."""
    going_on = (run_folder(output) / RUN).exists()
    if there := [path for path in (output, *([] if going_on else [finetuned_path(output)])) if path.exists()]:
        raise ModelError(f"{there[0]} is there already; choose another --output, or replace it with --overwrite")


def _finetune(run: Run, output: Path, *, overwrite: bool) -> FinetuneReport:
    model, recipe = run.model, run.recipe
    base = head_of(model, run.data, run.data.train)
    scale = logit_scale(base, run.data.val)
    outcomes, module = run.train(base, run.data.train, scale, "")
    start, best = next(iter(outcomes.values())).first.accuracy, list(outcomes.values())[-1].best.accuracy
    epochs = {name: outcome.epoch for name, outcome in outcomes.items()}
    if not any(epochs.values()):
        tuned, backbone = model, run.weights
        start = best = accuracy_of(base, run.data.val)  # of what is kept, where the beginning was a random head
    else:
        if recipe.refit:
            base, module = model, run.train(model, run.data.every, scale, "refit-", epochs)[1]
        tuned, backbone = from_torch(module, base, run.weights, head="softmax")
    summary = {"recipe": dataclasses.asdict(recipe), "val_start": start, "val_best": best, "epochs": epochs}
    tuned = dataclasses.replace(tuned, info={**tuned.info, "finetune": summary})
    written = str(finetuned_path(output)) if backbone.digest != run.weights.digest else ""
    if is_first():
        if written:
            save_finetuned(backbone, output)
        tuned.save(output, overwrite=overwrite)
        run.end()
    return FinetuneReport(str(output), written, start, best, epochs, str(run.folder / "log.csv"))
