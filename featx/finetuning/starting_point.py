"""Where fine-tuning begins: rows to train on and to validate on, and a head that has not seen the latter."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.base import clone
from torch import nn

from featx.backbones import BackboneWeights
from featx.errors import DataError, ModelError, SpecMismatch
from featx.finetuning.head_layers import check_hidden, make_layers
from featx.finetuning.recipe import Recipe
from featx.finetuning.trainable_layers import check_reach
from featx.heads import holdout, linear_parts, refit
from featx.models import ImageClassifier, Model, TrainingRows, read_training_rows, to_torch, trained_parts
from featx.spec import ExtractSpec
from featx.store import Store


@dataclass(frozen=True)
class Images:
    """Rows of a store by image: digests by path, and the features, class numbers and image numbers of their rows.

    Rows go by image, then by view. ``rows`` are their numbers among the ``training`` rows, which have the features.
    """

    digests: dict[str, str]
    training: TrainingRows
    rows: np.ndarray
    labels: np.ndarray
    owners: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """A copy of their features, float32 (rows, columns)."""
        copy: np.ndarray = self.training.X[self.rows]
        return copy


@dataclass(frozen=True)
class Data:
    """The spec of the store's views, and its training images: those to train on, and those to validate on."""

    spec: ExtractSpec
    training: TrainingRows
    train: Images
    val: Images
    every: Images


def check_recipe(model: Model, recipe: Recipe) -> None:
    """What can be told of a recipe before anything is read or made.

    Raises
    ------
    SpecError
        If stage 2 trains layers that the model does not run, or a hidden layer has too few units.
    ModelError
        If nothing is to be trained.
    """
    first = recipe.first(max(model.spec.blocks))
    if first is None and not recipe.head_epochs:
        raise ModelError("finetune has nothing to train: give --head-epochs, or --epochs and --unfreeze")
    if first is not None:
        check_reach(model.spec, first)
    check_hidden(len(linear_parts(model.estimator)[0]), recipe)


def read_data(model: Model, store: str | Path, recipe: Recipe) -> Data:
    """Read the rows that a model was fitted on, and hold out some of its images for validation, plain views alone.

    Raises
    ------
    DataError
        If images have several labels or weights, or torch has trained the model already.
    SpecMismatch
        If the store is not that of the model, or has changed since.
    """
    if model.multilabel:
        raise DataError("finetune takes one label an image; this model gives several")
    if "sample_weight" in model.info:
        raise DataError("finetune counts all images alike, and this model's fit did not; fit it without weights")
    if trained := trained_parts(model):
        raise DataError(
            f"finetune begins at a head of scikit-learn's, and torch has trained the {' and '.join(trained)} of this "
            f"model; fit it anew on {store}, or start from the model that it was trained from"
        )
    selection = model.info.get("selection", {})
    training = read_training_rows(
        store, blocks=model.spec.blocks, pools=model.spec.pools, split_column=selection.get("column"),
        test_size=selection.get("test_size"), random_state=selection.get("seed", 0),
    )  # fmt: skip
    if training.store_fingerprint != model.info.get("store"):
        raise SpecMismatch(f"{store} has other images than the store that the model was fitted on; fit it again first")
    if training.classes != model.classes:
        raise SpecMismatch(f"labels of {store} are others than when the model was fitted; fit it again first")
    with Store(store) as opened:
        opened.check_compatible(model.spec, "the model")
        spec = opened.spec
        paths, digests = (np.array(values)[training.row_index] for values in (opened.paths, opened.digests))
    labels = np.searchsorted(np.array(training.classes), training.y)
    fit, held = holdout(labels, digests.tolist(), recipe.val_size, recipe.random_state, "--val-size")
    held = held[training.plain[held]]
    chosen = (_images(training, paths, digests, labels, rows) for rows in (fit, held, np.arange(len(labels))))
    return Data(spec, training, *chosen)


def _images(
    training: TrainingRows, paths: np.ndarray, digests: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> Images:
    _, first, owners = np.unique(paths[rows], return_index=True, return_inverse=True)
    # In the order of the store, which keeps the views of an image together.
    rank = np.argsort(np.argsort(first))
    ordered = rows[np.sort(first)]
    known = dict(zip(paths[ordered].tolist(), digests[ordered].tolist(), strict=True))
    return Images(known, training, rows, labels[rows], rank[owners])


def head_of(model: Model, data: Data, images: Images) -> Model:
    """The model with its head fitted on some images alone, by scikit-learn as it was, and no calibration."""
    y = np.array(data.training.classes)[images.labels]
    return dataclasses.replace(model, estimator=refit(clone(model.estimator), images.features, y), calibration=None)


def accuracy_of(model: Model, images: Images) -> float:
    """The share of images that a model's head gives their class."""
    return float((model.estimator.predict(images.features) == np.array(model.classes)[images.labels]).mean())


def make_module(model: Model, weights: BackboneWeights, scale: float, recipe: Recipe) -> ImageClassifier:
    """The model as a module, with the recipe's layers as its head, and logits × ``scale``, which changes no class."""
    module = to_torch(model, weights)
    linear = module.head.state_dict()
    module.head = make_layers(linear["weight"] * scale, linear["bias"] * scale, recipe)
    if recipe.from_scratch:
        torch.manual_seed(recipe.random_state)
        for layer in module.backbone.features:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return module


def logit_scale(model: Model, held: Images) -> float:
    """What a model's logits are to be multiplied by for the least cross-entropy on images that it has not seen.

    Temperature scaling, Guo et al. 2017; 1 for softmax, which was fitted by cross-entropy. On images that it has seen a
    head tells all classes apart, and no scale would be too large; training would then begin where cross-entropy has
    nothing to tell. So that it does not where all held images are told apart, each class counts once more for every
    image, as in Platt's targets (1999).
    """
    if model.head == "softmax":
        return 1.0
    logits = torch.from_numpy(np.asarray(model.estimator.decision_function(held.features), np.float64))
    if logits.ndim == 1:
        logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
    labels, classes = torch.from_numpy(held.labels), logits.shape[1]
    smoothing = classes / (len(labels) + classes)

    def loss(power: float) -> float:
        return float(nn.functional.cross_entropy(logits * 10**power, labels, label_smoothing=smoothing))

    return float(10 ** minimize_scalar(loss, bounds=(-2, 2), method="bounded").x)
