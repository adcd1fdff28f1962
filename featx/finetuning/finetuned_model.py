"""Fine-tune a model from the head that scikit-learn fitted: first the head, then also the last backbone layers."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from featx.engines import find_device, finetuned_path, load_backbone_for, save_finetuned
from featx.errors import ModelError
from featx.finetuning.distributed import is_main_process, process_group, wait_for_all
from featx.finetuning.recipe import Recipe
from featx.finetuning.resumable_run import RUN, FinetuneRun, run_folder
from featx.finetuning.starting_point import check_recipe, fit_head, fit_logit_scale, head_accuracy, read_finetune_data
from featx.models import Model, from_torch
from featx.runtime import Compute


@dataclass(frozen=True, repr=False)
class FinetuneReport:
    """The result of a fine-tuning.

    Parameters
    ----------
    model : str
        The model file that was written.
    backbone : str
        The file with the trained weights of the backbone; empty if the backbone has not changed.
    val_start, val_best : float
        Validation accuracy from 0 to 1: of the model at the start, and of the model that was kept.
    epochs : dict
        Best epoch of each stage, ``head`` and ``backbone``; 0 stands for the start.
    log : str
        The training log, a CSV file.
    """

    model: str
    backbone: str
    val_start: float
    val_best: float
    epochs: dict[str, int]
    log: str

    def __repr__(self) -> str:
        epochs = ", ".join(f"{stage} {epoch}" for stage, epoch in self.epochs.items())
        return (
            f"FinetuneReport(validation accuracy {self.val_start:.4f} -> {self.val_best:.4f}, best epochs: {epochs})\n"
            f"  model: {self.model}\n  backbone: {self.backbone or 'unchanged'}\n  log: {self.log}"
        )


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
    """Train a model further: stage 1 trains its head, stage 2 also the last layers of its backbone.

    Some training images are held out for validation. Training starts from a head that scikit-learn fits without them.
    The result is the state with the best validation accuracy, which may be the one at the start. The output of the
    frozen layers is computed once for each augmented copy in the store. The order of the stages follows Yosinski et al.
    (2014), "How transferable are features in deep neural networks?".

    The same call resumes a run that was stopped. If ``torchrun`` starts several processes, they share each batch.

    Parameters
    ----------
    model : Model
        From `featx.load_model`, fitted on ``store``.
    store : path
        The store with the images and augmented copies (``featx extract --n-views``) to train on.
    output : path
        The model to write, such as ``tuned.featx``. A trained backbone is written beside it, as
        ``tuned.backbone.safetensors``. The folder ``OUTPUT.finetune`` gets the training log and the state to resume
        from.
    recipe : Recipe, optional
        What is trained, and how.
    compute : Compute, optional
        ``device`` is the device of the training. With the engine, batch size, workers and pixel limit, it also says how
        the output of the frozen layers is computed.
    root : path
        Folder that the store's paths are relative to.
    weights : path, optional
        File with the weights of the backbone, to use instead of the known sources.
    cache : path, optional
        Folder that keeps the output of the frozen layers, often gigabytes, for other splits and recipes. If another
        process is filling the folder, this process waits for it. By default the output is kept beside the log and
        removed at the end.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    FinetuneReport

    Raises
    ------
    ModelError
        If the output or its backbone exists or cannot be written, the recipe trains nothing, the training diverges, or
        ``cache`` is damaged.
    EngineError
        If the engine or device is not available, or a batch does not fit in memory.
    SpecError
        If the recipe trains layers that the model does not run, or its hidden layer has too few units.
    DataError
        If an image file is missing or has changed, or the model is multi-label, was fitted with sample weights, or has
        been trained by torch already.
    SpecMismatch
        If the model was not fitted on ``store``.
    """
    recipe, compute, output = recipe or Recipe(), compute or Compute(), Path(output)
    compute.check_unused("finetune", "executor", "shard")
    if output.is_dir():
        raise ModelError(f"{output} cannot be written: it is a folder; choose the name of a file")
    if not overwrite:
        _check_absent(output)
    check_recipe(model, recipe)
    with process_group(find_device(compute.device)):
        data = read_finetune_data(model, store, recipe)
        backbone = load_backbone_for(model.spec, weights, model.path)
        run = FinetuneRun(model, backbone, data, recipe, Path(root), run_folder(output), compute,
                          Path(cache) if cache else None)  # fmt: skip
        report = _train_and_save(run, output, overwrite=overwrite)
        wait_for_all()
        return report


def _check_absent(output: Path) -> None:
    """Raise ``ModelError`` if the output exists, or if a backbone is beside it that another model may need.

    A backbone that a stopped run has written does not raise an error.
    """
    resumes = (run_folder(output) / RUN).exists()
    for path in (output, *([] if resumes else [finetuned_path(output)])):
        if path.exists():
            raise ModelError(f"{path} exists already; choose another --output, or replace it with --overwrite")


def _train_and_save(run: FinetuneRun, output: Path, *, overwrite: bool) -> FinetuneReport:
    model, recipe = run.model, run.recipe
    base = fit_head(model, run.data, run.data.train)
    scale = fit_logit_scale(base, run.data.val)
    outcomes, classifier = run.train(base, run.data.train, scale)
    start, best = next(iter(outcomes.values())).start.accuracy, list(outcomes.values())[-1].best.accuracy
    epochs = {name: outcome.best_epoch for name, outcome in outcomes.items()}
    if any(epochs.values()):
        if recipe.refit:
            base, classifier = model, run.train(model, run.data.all, scale, "refit-", epochs)[1]
        tuned, backbone = from_torch(classifier, base, run.weights, head="softmax")
    else:
        # The model does not change. Report its own accuracy, because training may have started from random weights.
        tuned, backbone = model, run.weights
        start = best = head_accuracy(base, run.data.val)
    summary = {"recipe": dataclasses.asdict(recipe), "val_start": start, "val_best": best, "epochs": epochs}
    tuned = dataclasses.replace(tuned, info={**tuned.info, "finetune": summary})
    written = str(finetuned_path(output)) if backbone.digest != run.weights.digest else ""
    if is_main_process():
        if written:
            save_finetuned(backbone, output)
        tuned.save(output, overwrite=overwrite)
        run.finish()
    return FinetuneReport(str(output), written, start, best, epochs, str(run.folder / "log.csv"))
