"""Train one stage epoch by epoch, keep the best validated state, and resume after a stop."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from featx.engines import disable_tf32
from featx.errors import ModelError
from featx.files import atomic_write, check_bytes, unreadable_error, wrap_os_error
from featx.finetuning.distributed import (
    broadcast_from_main,
    data_parallel,
    is_main_process,
    local_rows,
    sum_over_processes,
)
from featx.finetuning.recipe import Recipe
from featx.finetuning.training_examples import TrainingExamples, mix_up
from featx.finetuning.training_log import TrainingLog
from featx.runtime import no_progress

VALIDATION_BATCH = 32
"""Images per forward pass in validation."""


@dataclass(frozen=True)
class ValidationScore:
    """Accuracy and mean cross-entropy on the validation images."""

    accuracy: float
    loss: float

    def better_than(self, other: "ValidationScore") -> bool:
        """Tell whether this score is better: by accuracy, then by loss. A loss that is not finite is never better."""
        return math.isfinite(self.loss) and (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class StageOutcome:
    """The validation scores of a stage at its start and in its best epoch; epoch 0 is the start."""

    start: ValidationScore
    best: ValidationScore
    best_epoch: int


class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        Name of the stage in the log, and of the file that holds its state.
    model : torch.nn.Module
        The model to train, which takes the inputs of a batch. Only the parameters in ``groups`` are trained.
    groups : list of dict
        Parameter groups of AdamW, with their learning rates.
    epochs : int
    recipe : Recipe
    train, val : TrainingExamples
    log : TrainingLog
        The training log. Its folder also gets the state after each epoch, which the caller must remove.
    device : torch.device
    validate : bool
        Validate after each epoch and end at the best state. If False, end at the state after the last epoch. A refit
        needs this, because it trains on the validation images.
    """

    def __init__(
        self, name: str, model: nn.Module, groups: list[dict[str, Any]], epochs: int, recipe: Recipe,
        train: TrainingExamples, val: TrainingExamples, log: TrainingLog, *, device: torch.device,
        validate: bool = True,
    ) -> None:  # fmt: skip
        self.name, self.model, self.epochs, self.recipe = name, model, epochs, recipe
        self.train, self.val, self.log, self.device, self.validates = train, val, log, device, validate
        self._trained = model
        self._path = log.folder / f"{name}.pt"
        self._parameters = [p for group in groups for p in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        passes = math.ceil(len(np.unique(train.image_ids)) / recipe.batch_size / recipe.accumulate)
        schedule, steps = recipe.schedule, max(1, epochs * passes)
        # The lambda must not refer to self: a reference cycle would keep the memory of a finished stage.
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: _lr_factor(schedule, step, steps)
        )
        self._ema = _make_ema(model, recipe.ema_decay) if recipe.ema_decay else None
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def run(self, advance: Callable[[int], object] = no_progress) -> StageOutcome:
        """Train, from the start or after the last finished epoch, and leave the model in its best validated state.

        ``advance`` is called with 1 after each epoch.
        """
        state = self._restore_state() or self._start_state()
        self._trained = data_parallel(self.model, self.device)
        for epoch in range(state["epoch"] + 1, self.epochs + 1):
            waited = epoch - 1 - state["best_epoch"]
            if self.validates and self.recipe.patience and waited >= self.recipe.patience:
                break
            self._run_epoch(epoch, state)
            advance(1)
        self._trained = self.model
        self.model.load_state_dict(state["best"], strict=False)
        start, best = (ValidationScore(*state[name]) for name in ("start_score", "best_score"))
        return StageOutcome(start, best, state["best_epoch"])

    def _run_epoch(self, epoch: int, state: dict[str, Any]) -> None:
        """Train and validate one epoch, then write its row of the log and the state."""
        began, rates = time.perf_counter(), self._learning_rates
        loss, accuracy = self._train_epoch(epoch)
        score = self.validate() if self.validates else None
        is_best = score.better_than(ValidationScore(*state["best_score"])) if score else epoch == self.epochs
        if is_best:
            state |= {"best_epoch": epoch, "best_score": _as_pair(score), "best": self._trained_weights()}
        state["epoch"] = epoch
        # The log comes before the state: after a stop between the two, the epoch is trained and logged again.
        self._log_row(
            epoch=epoch, stage=self.name, train_loss=loss, train_accuracy=accuracy, val_loss=score and score.loss,
            val_accuracy=score and score.accuracy, learning_rate=rates[0], backbone_learning_rate=rates[-1],
            seconds=time.perf_counter() - began,
        )  # fmt: skip
        self._save_state(state)

    def validate(self) -> ValidationScore:
        """Compute accuracy and mean cross-entropy on the validation rows, with averaged weights if there are any."""
        model = self._ema or self.model
        model.eval()
        count = len(self.val.labels)
        correct = loss = 0.0
        with torch.no_grad(), disable_tf32():
            for rows in np.array_split(np.arange(count), math.ceil(count / VALIDATION_BATCH)):
                logits, labels = self._logits(model, *self.val.batch(rows))
                correct += int((logits.argmax(1) == labels).sum())
                loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        # Devices round differently, but all processes must make the same decisions. So take the main process's numbers.
        correct, loss = broadcast_from_main(correct, loss)
        return ValidationScore(correct / count, loss / count)

    @property
    def _learning_rates(self) -> list[float]:
        """The learning rate of each parameter group in the next step."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        """Train one epoch. Return mean loss and accuracy on the training rows."""
        self._trained.train()
        # Dropout uses torch's global generator. Seed it per epoch, so that a resumed run draws the same numbers.
        torch.manual_seed(self.recipe.random_state * 100_003 + epoch)
        rng = np.random.default_rng([self.recipe.random_state, epoch])
        batches = list(self.train.iterate_batches(self.recipe.batch_size, rng))
        loss_sum = correct = seen = 0.0
        for number, batch in enumerate(batches, start=1):
            rows, weight = local_rows(batch)
            inputs, labels = self.train.batch(rows)
            mixed, partners, share = mix_up(inputs, self.recipe.mixup, rng)
            logits, labels = self._logits(self._trained, mixed, labels)
            loss = share * self._loss(logits, labels) + (1 - share) * self._loss(logits, labels[partners])
            (weight * loss / self.recipe.accumulate).backward()
            if number % self.recipe.accumulate == 0 or number == len(batches):
                self._step()
            if weight:
                loss_sum += loss.item() * len(rows)
                correct += int((logits.argmax(1) == labels).sum())
                seen += len(rows)
        loss_sum, correct, seen = sum_over_processes(loss_sum, correct, seen)
        if not math.isfinite(loss_sum):
            raise ModelError(
                f"the training loss is not finite in epoch {epoch}; give a smaller --lr or --backbone-lr-scale"
            )  # fmt: skip
        return loss_sum / seen, correct / seen

    def _step(self) -> None:
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema:
            self._ema.update_parameters(self.model)

    def _logits(self, model: nn.Module, inputs: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (rows, classes) and the labels, both on the device."""
        # Convert float16 to float32 on the device, so that only half as many bytes are copied to the device.
        moved = [x.to(self.device) for x in inputs]
        return model(*(x.float() if x.dtype == torch.float16 else x for x in moved)), labels.to(self.device)

    def _trained_weights(self) -> dict[str, Tensor]:
        """Copy the trained parameters, or their moving averages if there are any, by name."""
        model = self._ema.module if self._ema else self.model
        trained = {id(p) for p in self._parameters}
        names = [name for name, p in self.model.named_parameters() if id(p) in trained]
        parameters = dict(model.named_parameters())
        return {name: parameters[name].detach().cpu().clone() for name in names}

    def _start_state(self) -> dict[str, Any]:
        score = self.validate() if self.validates else None
        if score:
            self._log_row(epoch=0, stage=self.name, val_loss=score.loss, val_accuracy=score.accuracy)
        pair = _as_pair(score)
        return {
            "epoch": 0, "best_epoch": 0, "start_score": pair, "best_score": pair, "best": self._trained_weights()
        }  # fmt: skip

    def _log_row(self, **row: Any) -> None:
        if is_main_process():
            self.log.add(**row)

    def _save_state(self, state: dict[str, Any]) -> None:
        """Write what `_restore_state` needs to continue after this epoch."""
        if not is_main_process():
            return
        training = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "ema": self._ema.state_dict() if self._ema else None,
        }
        # Write with Python, not torch, because only Python's error message says that the disk is full.
        data = io.BytesIO()
        torch.save({**state, "training": training}, data)
        with atomic_write(self._path, ModelError) as temporary:
            temporary.write_bytes(data.getbuffer())

    def _restore_state(self) -> dict[str, Any] | None:
        """Read the state that a stopped run has left, if any."""
        with wrap_os_error(self._path, ModelError):
            if not self._path.exists():
                return None
        try:
            state: dict[str, Any] = torch.load(self._path, weights_only=True, map_location=self.device)
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # torch raises any exception for damaged files.
            if unreadable := unreadable_error(self._path, error, ModelError):
                raise unreadable from error
            check_bytes(self._path, ModelError)
            raise ModelError(
                f"{self._path} is damaged ({error}); move it away to train the stage {self.name} from its start"
            ) from error
        training = state.pop("training")
        self.model.load_state_dict(training["model"])
        self._optimizer.load_state_dict(training["optimizer"])
        self._schedule.load_state_dict(training["schedule"])
        if self._ema:
            self._ema.load_state_dict(training["ema"])
        return state


def _as_pair(score: ValidationScore | None) -> tuple[float, float]:
    return (score.accuracy, score.loss) if score else (math.nan, math.nan)


def _lr_factor(schedule: str, step: int, steps: int) -> float:
    """Return the factor by which a schedule multiplies the learning rate at a step."""
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))


def _make_ema(model: nn.Module, decay: float) -> AveragedModel:
    """Make an exponential moving average of a model's weights, with ``decay`` per step (Polyak & Juditsky 1992)."""
    make_function: Any = get_ema_multi_avg_fn  # not typed in torch
    return AveragedModel(model, multi_avg_fn=make_function(decay))
