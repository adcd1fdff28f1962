"""Training epoch by epoch: one stage, from its beginning or from its last finished epoch, keeping the best state."""

import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from featx.engines import full_float32
from featx.errors import ModelError
from featx.files import atomic_write
from featx.finetuning.distributed import is_first, of_first, own_rows, spread, total
from featx.finetuning.recipe import Recipe
from featx.finetuning.training_log import Log


@dataclass(frozen=True)
class Rows:
    """Inputs and class numbers of some rows: of ``inputs``, each is indexed by row numbers, (n, …).

    ``owners`` says which image each row is a view of: an epoch takes one view of each at random.
    """

    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray
    owners: np.ndarray

    def batch(self, rows: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """Tensors of some rows."""
        tensors = [torch.from_numpy(np.ascontiguousarray(values[rows])) for values in self.inputs]
        return tensors, torch.from_numpy(self.labels[rows])


@dataclass(frozen=True)
class Score:
    """Validation: accuracy first, then loss."""

    accuracy: float
    loss: float

    def better_than(self, other: "Score") -> bool:
        """Whether it is to be preferred; what is no number never is."""
        return math.isfinite(self.loss) and (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


@dataclass(frozen=True)
class Outcome:
    """Of a stage: validation at its beginning and at its best, and the epoch of the best, 0 for the beginning."""

    first: Score
    best: Score
    epoch: int


class Stage:
    """One stage of training.

    Parameters
    ----------
    name : str
        For the log.
    model : torch.nn.Module
        Called with the tensors of a batch; those of its parameters that ``groups`` names are trained.
    groups : list of dict
        Of AdamW, with learning rates.
    epochs : int
    recipe : Recipe
    train, val : Rows
    folder : Path
        Where the state after each epoch is kept; removed by the caller.
    log : Log
    stop : int, optional
        Train just so many epochs, over which the schedule runs, and end at the state then reached, not at the best.
        Nothing is validated: what it would be on is trained on.
    """

    def __init__(
        self, name: str, model: nn.Module, groups: list[dict[str, Any]], epochs: int, recipe: Recipe, train: Rows,
        val: Rows, folder: Path, log: Log, *, device: torch.device, stop: int | None = None,
    ) -> None:  # fmt: skip
        self.name, self.model, self.epochs, self.recipe = name, model, epochs, recipe
        self.train, self.val, self.log, self.device, self.stop = train, val, log, device, stop
        self._trained = model
        self._path = folder / f"{name}.pt"
        self._parameters = [p for group in groups for p in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
        passes = math.ceil(len(np.unique(train.owners)) / recipe.batch_size / recipe.accumulate)
        self._steps = max(1, (stop or epochs) * passes)
        schedule, steps = recipe.schedule, self._steps
        # Not a method: as part of a cycle the stage would keep its memory when it is done.
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: _factor(schedule, step, steps))
        self._averaged = _average(model, recipe.ema_decay) if recipe.ema_decay else None
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def run(self, advance: Callable[[int], object] = int) -> Outcome:
        """Train, and leave the model at its best validated state, the one it began with included."""
        state = self._restore() or self._begin()
        self._trained = spread(self.model, self.device)
        for epoch in range(state["epoch"] + 1, (self.stop or self.epochs) + 1):
            if self.stop is None and self.recipe.patience and epoch - 1 - state["best_epoch"] >= self.recipe.patience:
                break
            began, rates = time.perf_counter(), self._rates
            loss, accuracy = self._train_epoch(epoch)
            score = None if self.stop else self.validate()
            if epoch == self.stop or (score and score.better_than(Score(*state["best_score"]))):
                state |= {"best_epoch": epoch, "best_score": _pair(score), "best": self._weights()}
            state["epoch"] = epoch
            # Before the state is kept: what is stopped in between trains the epoch again, and writes its row again.
            self._note(
                epoch=epoch, stage=self.name, train_loss=loss, train_accuracy=accuracy,
                val_loss=score and score.loss, val_accuracy=score and score.accuracy, learning_rate=rates[0],
                backbone_learning_rate=rates[-1], seconds=time.perf_counter() - began,
            )  # fmt: skip
            self._keep(state)
            advance(1)
        self._trained = self.model
        self._set(state["best"])
        return Outcome(Score(*state["first_score"]), Score(*state["best_score"]), state["best_epoch"])

    def validate(self) -> Score:
        """Accuracy and cross-entropy on the validation rows."""
        model = self._averaged or self.model
        model.eval()
        right = loss = 0.0
        with torch.no_grad(), full_float32():
            for rows in np.array_split(np.arange(len(self.val.labels)), math.ceil(len(self.val.labels) / 32)):
                logits, labels = self._logits(model, *self.val.batch(rows))
                right += int((logits.argmax(1) == labels).sum())
                loss += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        # Processes on unlike devices round otherwise, and must not decide otherwise.
        right, loss = of_first(right, loss)
        return Score(right / len(self.val.labels), loss / len(self.val.labels))

    @property
    def _rates(self) -> list[float]:
        """The learning rate that each group's next step takes: an epoch's are logged as they are at its beginning."""
        return [group["lr"] for group in self._optimizer.param_groups]

    def _train_epoch(self, epoch: int) -> tuple[float, float]:
        self._trained.train()
        # Dropout draws from torch's generator; a resumed run must draw the same.
        torch.manual_seed(self.recipe.random_state * 100_003 + epoch)
        rng = np.random.default_rng([self.recipe.random_state, epoch])
        lost = right = seen = 0.0
        for number, batch in enumerate(batches := list(self._batches(rng)), start=1):
            rows, counts = own_rows(batch)
            inputs, labels = self.train.batch(rows)
            mixed, other, share = self._mix(inputs, rng)
            logits, labels = self._logits(self._trained, mixed, labels)
            loss = share * self._loss(logits, labels) + (1 - share) * self._loss(logits, labels[other])
            (counts * loss / self.recipe.accumulate).backward()
            if number % self.recipe.accumulate == 0 or number == len(batches):
                self._step()
            if counts:
                lost += loss.item() * len(rows)
                right += int((logits.argmax(1) == labels).sum())
                seen += len(rows)
        lost, right, seen = total(lost, right, seen)
        if not math.isfinite(lost):
            raise ModelError(f"the training of epoch {epoch} has left the range of numbers; give a smaller --lr, or a "
                             "smaller --backbone-lr-scale")  # fmt: skip
        return lost / seen, right / seen

    def _step(self) -> None:
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._averaged:
            self._averaged.update_parameters(self.model)

    def _logits(self, model: nn.Module, inputs: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits with a column a class, and labels, on the device; one logit is that of the second of two classes."""
        # Halves are moved as such, and become float32 where they are used.
        moved = [x.to(self.device) for x in inputs]
        logits = model(*(x.float() if x.dtype == torch.float16 else x for x in moved))
        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits, labels.to(self.device)

    def _batches(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Row numbers in batches: one view of each image, images in random order."""
        order = rng.permutation(len(self.train.owners))
        _, first = np.unique(self.train.owners[order], return_index=True)
        rows = rng.permutation(order[first])
        for start in range(0, len(rows), self.recipe.batch_size):
            yield np.sort(rows[start : start + self.recipe.batch_size])

    def _mix(self, inputs: list[Tensor], rng: np.random.Generator) -> tuple[list[Tensor], Tensor, float]:
        """Mixup (Zhang et al. 2018) of what the trained layers take: inputs, partners, and the share of the first."""
        partners = torch.from_numpy(rng.permutation(len(inputs[0])))
        if not self.recipe.mixup:
            return inputs, partners, 1.0
        share = float(rng.beta(self.recipe.mixup, self.recipe.mixup))
        return [share * x.float() + (1 - share) * x[partners].float() for x in inputs], partners, share

    def _weights(self) -> dict[str, Tensor]:
        """A copy of what is trained, by name; the running average where there is one."""
        model = self._averaged.module if self._averaged else self.model
        wanted = {id(p) for p in self._parameters}
        names = [name for name, p in self.model.named_parameters() if id(p) in wanted]
        source = dict(model.named_parameters())
        return {name: source[name].detach().cpu().clone() for name in names}

    def _set(self, weights: dict[str, Tensor]) -> None:
        self.model.load_state_dict(weights, strict=False)

    def _begin(self) -> dict[str, Any]:
        score = None if self.stop else self.validate()
        if score:
            self._note(epoch=0, stage=self.name, val_loss=score.loss, val_accuracy=score.accuracy)
        pair = _pair(score)
        return {"epoch": 0, "best_epoch": 0, "first_score": pair, "best_score": pair, "best": self._weights()}

    def _note(self, **row: Any) -> None:
        if is_first():
            self.log.add(**row)

    def _keep(self, state: dict[str, Any]) -> None:
        if not is_first():
            return
        training = {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "averaged": self._averaged.state_dict() if self._averaged else None,
        }
        # torch says of a full disk only that something failed; Python says what.
        data = io.BytesIO()
        torch.save({**state, "training": training}, data)
        with atomic_write(self._path, ModelError) as temporary:
            temporary.write_bytes(data.getbuffer())

    def _restore(self) -> dict[str, Any] | None:
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, weights_only=True, map_location=self.device)
        training = state.pop("training")
        self.model.load_state_dict(training["model"])
        self._optimizer.load_state_dict(training["optimizer"])
        self._schedule.load_state_dict(training["schedule"])
        if self._averaged:
            self._averaged.load_state_dict(training["averaged"])
        return state


def _pair(score: Score | None) -> tuple[float, float]:
    return (score.accuracy, score.loss) if score else (math.nan, math.nan)


def _factor(schedule: str, step: int, steps: int) -> float:
    """What a learning rate is multiplied by."""
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * min(1, step / steps)))


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of a model's weights (Polyak & Juditsky 1992), exponential with ``decay`` a step."""
    averaging: Any = get_ema_multi_avg_fn  # torch gives it no types
    return AveragedModel(model, multi_avg_fn=averaging(decay))
