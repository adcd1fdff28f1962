"""Turn a saved model into a torch module, and a trained torch module into a model."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from featx.backbones import BackboneWeights, backbone_digest
from featx.engines import TorchBackbone, TorchEngine, compute_reference_features, load_backbone_for
from featx.errors import ModelError
from featx.heads import (
    BlockNormalizer,
    HiddenLayer,
    add_hidden_layer,
    class_linear_parts,
    from_linear_parts,
    get_hidden_layer,
    is_multilabel,
    linear_parts,
)
from featx.models.saved_model import Model
from featx.models.torch_modules import ImageClassifier, PowerNormalize, Standardize
from featx.models.trained_by_torch import KEY, PARTS, trained_parts

NOT_COUNTED = (nn.Dropout, nn.Identity, nn.Sequential)
"""Modules in a head that have no effect at inference."""


def to_torch(model: Model, weights: BackboneWeights | str | Path | None = None) -> ImageClassifier:
    """Turn a model into a torch module whose logits are the decisions of the model's head.

    Parameters
    ----------
    model : Model
        The model.
    weights : BackboneWeights or path, optional
        The backbone's weights. By default, the weights that the spec names are loaded, or the weights beside the
        model's file.

    Returns
    -------
    ImageClassifier
        It maps images, uint8 or preprocessed floats (n, 3, size, size), to logits (n, classes). The predicted class has
        the largest logit. For two exclusive classes, ``decision_function`` returns one decision d, and the logits are
        -d/2 and d/2. The module is on the CPU, in float32 and in training mode.

    Raises
    ------
    SpecMismatch, WeightsError
        If the weights are not those that the model was fitted with, or cannot be found.
    """
    backbone = TorchBackbone.from_tensors(_find_weights(model, weights).tensors, model.spec.blocks)
    normalizer = _normalizer_module(model.estimator.named_steps["normalizer"])
    head: nn.Module = _linear_module(*class_linear_parts(model.estimator, np.float32))
    if hidden := get_hidden_layer(model.estimator):
        head = nn.Sequential(_linear_module(hidden.coef_, hidden.intercept_), nn.ReLU(), head)
    return ImageClassifier(model.spec, model.classes, backbone, normalizer, head)


def from_torch(
    module: ImageClassifier,
    model: Model,
    weights: BackboneWeights | str | Path | None = None,
    *,
    head: str | None = None,
    backbone: str = "finetuned",
    info: Mapping[str, Any] | None = None,
) -> tuple[Model, BackboneWeights]:
    """Turn a trained torch module into a model and the weights of its backbone.

    Parameters
    ----------
    module : ImageClassifier
        Module from `to_torch`. Its backbone and head may have been trained, but not its normalizer. Its head must be
        one linear layer, or two with ``torch.nn.ReLU`` between them, with or without dropout.
    model : Model
        The model that the module was made from.
    weights : BackboneWeights or path, optional
        As in `to_torch`. Layers that the module does not run are taken from these weights.
    head : str, optional
        What the logits mean: a key of `featx.heads.HEADS`. By default, it is the head of ``model``. After training with
        cross-entropy, give ``softmax``. For two exclusive classes, the difference of the two logits becomes the
        decision. A module with one logit for two classes is also accepted.
    backbone : str
        New name of the backbone's weights, used if they changed.
    info : mapping, optional
        Replaces the model's ``info``. The names of the parts that torch has trained are added to it.

    Returns
    -------
    model : Model
        Model with the module's weights. If the backbone changed, the model's spec has the new digest and precision
        fp32. A calibration of probabilities is dropped, because it was fitted to the earlier decisions.
    weights : BackboneWeights
        The backbone. If its digest changed, save it beside the model with `featx.engines.save_finetuned`.

    Raises
    ------
    ModelError
        If the head has other layers, or a weight is not finite.
    SpecError
        If the shape of the head does not match the classes.
    """
    before = _find_weights(model, weights)
    kind, estimator = head or model.head, _make_pipeline(module, model, head or model.head)
    after = _read_backbone(module, before, backbone)
    same = (kind == model.head and _equal_heads(estimator, model.estimator), after.digest == before.digest)
    facts = {name: value for name, value in (model.info if info is None else info).items() if name != "calibration"}
    earlier = trained_parts(model)
    if trained := [part for part, kept in zip(PARTS, same, strict=True) if part in earlier or not kept]:
        facts[KEY] = trained
    changes: dict[str, Any] = {"head": kind, "estimator": estimator, "info": facts, "calibration": None, "path": None}
    if after.digest != before.digest:
        # The module computes in fp32, and an int8 calibration belongs to one backbone.
        named = model.spec.with_backbone(after.name, after.digest, after.preprocessing)
        spec = dataclasses.replace(named, precision="fp32", calibration=())
        changes |= {
            "spec": spec,
            "reference_features": compute_reference_features(TorchEngine(after, spec, "cpu")),
        }
    return dataclasses.replace(model, **changes), after


def _find_weights(model: Model, weights: BackboneWeights | str | Path | None) -> BackboneWeights:
    """Return the backbone's weights. Raise ``SpecMismatch`` if the model was fitted with other weights."""
    if not isinstance(weights, BackboneWeights):
        return load_backbone_for(model.spec, weights, model.path)
    model.spec.check_same(
        dataclasses.replace(model.spec, backbone_digest=weights.digest),
        this="the model",
        that=f"the weights from {weights.source}",
        remedy="give the weights that it was fitted with",
    )
    return weights


def _linear_module(W: np.ndarray, b: np.ndarray) -> nn.Linear:
    layer = nn.Linear(W.shape[1], len(W))
    layer.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.from_numpy(b)})
    return layer


def _normalizer_module(normalizer: BaseEstimator | str) -> nn.Module:
    if isinstance(normalizer, BlockNormalizer):
        return PowerNormalize(normalizer.widths_, normalizer.power)
    if isinstance(normalizer, StandardScaler):
        return Standardize(normalizer.mean_, normalizer.scale_)
    return nn.Identity()


def _make_pipeline(module: ImageClassifier, model: Model, kind: str) -> Pipeline:
    """Put the module's head behind the model's normalizer, with the parameters of the model's own head."""
    multilabel = is_multilabel(model.estimator)
    hidden, (W, b) = _read_head(module, one_output=len(model.classes) == 2 and not multilabel)
    before = getattr(model.estimator.named_steps["head"], "estimator", model.estimator.named_steps["head"])
    parameters = {name: getattr(before, name) for name in ("C", "class_weight", "random_state")}
    if kind != model.head and isinstance(parameters["class_weight"], Mapping):
        # Another head cannot use class weights by class name, because its binary classifiers have no class names.
        parameters["class_weight"] = None
    parts = (W, b, np.array(model.classes), model.estimator.named_steps["normalizer"])
    return add_hidden_layer(from_linear_parts(kind, *parts, **parameters, multilabel=multilabel), hidden)


def _equal_heads(one: Pipeline, other: Pipeline) -> bool:
    """Return whether two heads have the same layers, with weights that are equal as float32."""
    arrays = [
        [*linear_parts(pipeline, np.float32), *((hidden.coef_, hidden.intercept_) if hidden else ())]
        for pipeline, hidden in ((pipeline, get_hidden_layer(pipeline)) for pipeline in (one, other))
    ]
    return len(arrays[0]) == len(arrays[1]) and all(map(np.array_equal, *arrays))


def _read_head(
    module: ImageClassifier, *, one_output: bool
) -> tuple[HiddenLayer | None, tuple[np.ndarray, np.ndarray]]:
    """Return the hidden layer, if any, and the weights and intercepts of the last layer."""
    layers = [layer for layer in module.head.modules() if not isinstance(layer, NOT_COUNTED)]
    kinds = [type(layer) for layer in layers]
    if kinds not in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear]):
        got = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise ModelError(
            f"head of the module must be one linear layer, or two with ReLU between, to become a model, got {got}"
        )
    hidden = HiddenLayer.from_parts(*_read_linear(layers[0])) if len(layers) > 1 else None
    W, b = _read_linear(layers[-1])
    return hidden, ((W[1:] - W[:1], b[1:] - b[:1]) if one_output and len(W) == 2 else (W, b))


def _read_linear(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    parts = {name: values.detach().float().cpu().numpy().copy() for name, values in layer.state_dict().items()}
    return parts["weight"], parts.get("bias", np.zeros(len(parts["weight"]), np.float32))


def _read_backbone(module: ImageClassifier, before: BackboneWeights, name: str) -> BackboneWeights:
    """Return the module's backbone, or ``before`` itself if it did not change."""
    trained = {
        key: np.ascontiguousarray(values.detach().float().cpu().numpy())
        for key, values in module.backbone.state_dict().items()
    }
    tensors = {**before.tensors, **trained}
    digest = backbone_digest(tensors)
    if digest == before.digest:
        return before
    return BackboneWeights(name, digest, before.preprocessing, f"{before.name}, fine-tuned", tensors)
