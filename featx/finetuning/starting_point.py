"""Prepare the start of a fine-tuning: hold out validation images, and fit a head on the other images."""

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from torch import nn

from featx.backbones import BackboneWeights
from featx.errors import DataError, FeatxWarning, ModelError, SpecMismatch
from featx.finetuning.recipe import Recipe
from featx.finetuning.trainable_layers import check_hidden_units, check_layer_exists, make_head_layers
from featx.heads import class_linear_parts, fit_temperature, hold_out, refit
from featx.models import ImageClassifier, Model, TrainingRows, read_fitted_rows, to_torch, trained_parts
from featx.runtime import pluralize, shorten_list
from featx.spec import ExtractSpec
from featx.store import Store


@dataclass(frozen=True)
class ImageSubset:
    """Some images of a store and the rows of their augmented copies, sorted by image, then by copy.

    Parameters
    ----------
    digests : dict
        sha256 of each image file by its path.
    training : TrainingRows
        All training rows of the store, with their features.
    rows : int array (rows,)
        The rows of these images among all training rows.
    labels : int array (rows,)
        Class numbers.
    image_ids : int array (rows,)
        The position in ``digests`` of the image that each row belongs to.
    """

    digests: dict[str, str]
    training: TrainingRows
    rows: np.ndarray
    labels: np.ndarray
    image_ids: np.ndarray

    @property
    def features(self) -> np.ndarray:
        """A copy of the pooled features of these images, float32 (rows, columns)."""
        copy: np.ndarray = self.training.X[self.rows]
        return copy


@dataclass(frozen=True)
class FinetuneData:
    """The spec of a store, the images to train on, the plain images to validate on, and all images."""

    spec: ExtractSpec
    training: TrainingRows
    train: ImageSubset
    val: ImageSubset
    all: ImageSubset


def check_recipe(model: Model, recipe: Recipe) -> None:
    """Check a recipe against a model, before anything is read or written.

    Raises
    ------
    SpecError
        If the recipe trains layers that the model does not run, or its hidden layer has too few units.
    ModelError
        If the recipe trains nothing.
    """
    first_layer = recipe.first_trained_layer(max(model.spec.blocks))
    if first_layer is None and not recipe.head_epochs:
        raise ModelError("finetune has nothing to train; give --head-epochs, or --epochs and --unfreeze")
    if first_layer is not None:
        check_layer_exists(model.spec, first_layer)
    check_hidden_units(len(class_linear_parts(model.estimator)[0]), recipe)


def read_finetune_data(model: Model, store: str | Path, recipe: Recipe) -> FinetuneData:
    """Read the rows that a model was fitted on, and hold out some of the images for validation.

    Raises
    ------
    DataError
        If the model is multi-label, was fitted with sample weights, or has been trained by torch already.
    SpecMismatch
        If the model was fitted on another store, or the store has changed since.
    """
    if model.multilabel:
        raise DataError("finetune needs one label per image, but this model is multi-label")
    if "sample_weight" in model.info:
        raise DataError("finetune does not support sample weights; fit the model without them first")
    if trained := trained_parts(model):
        raise DataError(
            f"a fine-tuned model cannot be fine-tuned again, and torch has trained the {' and '.join(trained)} of this "
            f"model; fit a new head on {store}, or start from the model that this one was trained from"
        )
    training = read_fitted_rows(store, model)
    if training.store_fingerprint != model.info.get("store"):
        raise SpecMismatch(f"the model was not fitted on the images of {store}; fit it on them first")
    if training.classes != model.classes:
        raise SpecMismatch(f"labels of {store} have changed since the model was fitted; fit it again first")
    with Store(store) as opened:
        opened.check_compatible(model.spec, "the model")
        spec = opened.spec
        paths, digests = (np.array(values)[training.row_index] for values in (opened.paths, opened.digests))
    labels = np.searchsorted(np.array(training.classes), training.y)
    train, val = hold_out(labels, training.groups, recipe.val_size, recipe.random_state, "--val-size")
    val = val[training.plain[val]]
    absent = [training.classes[code] for code in np.setdiff1d(labels, labels[val])]
    if absent:
        what = pluralize(len(absent), "class has", "classes have")
        warnings.warn(
            f"{what} too few images or groups for validation, so all of them are trained on: {shorten_list(absent)}",
            FeatxWarning,
            stacklevel=2,
        )
    subsets = (_make_subset(training, paths, digests, labels, rows) for rows in (train, val, np.arange(len(labels))))
    return FinetuneData(spec, training, *subsets)


def _make_subset(
    training: TrainingRows, paths: np.ndarray, digests: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> ImageSubset:
    _, first, ids = np.unique(paths[rows], return_index=True, return_inverse=True)
    # np.unique numbers the images by path. Number them in the order of the store instead, to keep copies together.
    position = np.argsort(np.argsort(first))
    images = rows[np.sort(first)]
    digest_of = dict(zip(paths[images].tolist(), digests[images].tolist(), strict=True))
    return ImageSubset(digest_of, training, rows, labels[rows], position[ids])


def fit_head(model: Model, data: FinetuneData, images: ImageSubset) -> Model:
    """Fit the head of a model again on some of the images, with the same C and without calibration."""
    y = np.array(data.training.classes)[images.labels]
    return dataclasses.replace(model, estimator=refit(clone(model.estimator), images.features, y), calibration=None)


def head_accuracy(model: Model, images: ImageSubset) -> float:
    """Return the accuracy of a model's head on stored features."""
    return float((model.predict(images.features) == np.array(model.classes)[images.labels]).mean())


def make_classifier(model: Model, weights: BackboneWeights, scale: float, recipe: Recipe) -> ImageClassifier:
    """Build the torch module to train: the model's backbone, with the recipe's layers as its head.

    The logits of the model's head are multiplied by ``scale``, which changes no prediction. If the recipe has
    ``from_scratch``, the backbone gets random weights (He et al. 2015).
    """
    classifier = to_torch(model, weights)
    linear = classifier.head.state_dict()
    classifier.head = make_head_layers(linear["weight"] * scale, linear["bias"] * scale, recipe)
    if recipe.from_scratch:
        torch.manual_seed(recipe.random_state)
        for layer in classifier.backbone.features:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return classifier


def fit_logit_scale(model: Model, val: ImageSubset) -> float:
    """Find the factor on a model's logits that minimizes the cross-entropy on the validation images.

    It is 1 / temperature (see `featx.heads.fit_temperature`), and 1 for softmax, which was fitted by cross-entropy
    already. A head that was fitted by another loss has logits of another scale. Training with cross-entropy would first
    spend epochs on correcting this scale, or would have no gradient if the logits are too large. The scale cannot be
    found on the images that the head was fitted on, because the head separates them almost perfectly.
    """
    if model.head == "softmax":
        return 1.0
    return 1 / fit_temperature(model.decision_function(val.features), val.labels).temperature
