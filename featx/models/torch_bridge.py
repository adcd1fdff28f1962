"""The bridge to torch: a saved model as a torch module, and a trained module as a saved model.

What a model is, is asked by attributes alone (`Fitted`), so that ``featx.models.saved_model`` can offer the way over itself.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

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
    from_linear_parts,
    get_hidden_layer,
    is_multilabel,
    linear_parts,
)
from featx.models.torch_modules import BlockPower, ImageClassifier, Standardize
from featx.models.trained_by_torch import KEY, PARTS, trained_parts
from featx.spec import ExtractSpec

__all__ = ["BlockPower", "Fitted", "ImageClassifier", "Standardize", "from_torch", "to_torch", "trained_parts"]
TRANSPARENT = (nn.Dropout, nn.Identity, nn.Sequential)
"""Layers that leave a head linear when it is not trained."""


class Fitted(Protocol):
    """What the bridge asks of a model; `featx.models.saved_model.Model` is one."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @property
    def spec(self) -> ExtractSpec:
        """Of the features that the head takes."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, sorted."""

    @property
    def head(self) -> str:
        """A key of ``featx.heads.HEADS``."""

    @property
    def estimator(self) -> Pipeline:
        """A fitted normalizer and linear head."""

    @property
    def info(self) -> dict[str, Any]:
        """What else is known of the model."""

    @property
    def path(self) -> Path | None:
        """The file that it was read from."""


M = TypeVar("M", bound=Fitted)


def to_torch(model: Fitted, weights: BackboneWeights | str | Path | None = None) -> ImageClassifier:
    """A model as a torch module, whose logits are the head's decisions.

    Parameters
    ----------
    model : Model
        With any head, blocks, pools and normalizer.
    weights : BackboneWeights or path, optional
        The backbone's weights; by default those beside the model's file, or those known by the spec's name.

    Returns
    -------
    ImageClassifier
        From uint8 or preprocessed images (n, 3, size, size) to logits (n, classes), or (n, 1) for one of two classes;
        on the CPU, in float32, ready to be trained.

    Raises
    ------
    SpecMismatch, WeightsError
        If the weights are not those that the model was fitted with, or are not to be had.
    """
    backbone = TorchBackbone.from_tensors(_weights_of(model, weights).tensors, model.spec.blocks)
    normalizer = _normalizer_module(model.estimator.named_steps["normalizer"])
    head: nn.Module = _linear_module(*linear_parts(model.estimator, np.float32))
    if hidden := get_hidden_layer(model.estimator):
        head = nn.Sequential(_linear_module(hidden.coef_, hidden.intercept_), nn.ReLU(), head)
    return ImageClassifier(model.spec, model.classes, backbone, normalizer, head)


def from_torch(
    module: ImageClassifier,
    model: M,
    weights: BackboneWeights | str | Path | None = None,
    *,
    head: str | None = None,
    backbone: str = "finetuned",
    info: Mapping[str, Any] | None = None,
) -> tuple[M, BackboneWeights]:
    """A trained module as a model again, and the weights of its backbone.

    Parameters
    ----------
    module : ImageClassifier
        From `to_torch`, trained or not, its normalizer untouched. Its head must be linear, or have one hidden layer
        and ``torch.nn.ReLU``; with dropout or not.
    model : Model
        What the module was made of.
    weights : BackboneWeights or path, optional
        As in `to_torch`: the layers that the module does not run are taken from there.
    head : str, optional
        What the logits mean, a key of ``featx.heads.HEADS``; by default as in ``model``. After training with
        cross-entropy it is ``softmax``. Two logits for two classes become one, their difference.
    backbone : str
        Name of the backbone's weights if they have changed.
    info : mapping, optional
        Replaces the model's own; which parts torch has trained is added to either, as ``trained_by_torch``.

    Returns
    -------
    model : Model
        With the module's weights; its spec has the new backbone's digest, and precision fp32 if the backbone has changed. A
        calibration of its probabilities, which was that of other decisions, is dropped. `trained_parts` says
        what of it torch has trained.
    weights : BackboneWeights
        To be saved beside the model by `featx.backbones.save_beside`, if ``digest`` has changed.

    Raises
    ------
    ModelError
        If the head has another form, or a weight is not finite.
    SpecError
        If the head's shape does not fit the classes.
    """
    before = _weights_of(model, weights)
    kind, estimator = head or model.head, _pipeline_of(module, model, head or model.head)
    after = _backbone_of(module, before, backbone)
    same = (kind == model.head and _same_head(estimator, model.estimator), after.digest == before.digest)
    known = {name: value for name, value in (model.info if info is None else info).items() if name != "calibration"}
    earlier = trained_parts(model)
    if trained := [part for part, kept in zip(PARTS, same, strict=True) if part in earlier or not kept]:
        known[KEY] = trained
    changes: dict[str, Any] = {"head": kind, "estimator": estimator, "info": known, "calibration": None, "path": None}
    if after.digest != before.digest:
        # The module computes in fp32, and a calibration holds for one backbone.
        named = model.spec.with_backbone(after.name, after.digest, after.preprocessing)
        spec = dataclasses.replace(named, precision="fp32", calibration=())
        changes |= {"spec": spec, "reference_features": compute_reference_features(TorchEngine(after, spec, "cpu"))}
    return dataclasses.replace(model, **changes), after


def _linear_module(W: np.ndarray, b: np.ndarray) -> nn.Linear:
    layer = nn.Linear(W.shape[1], len(W))
    layer.load_state_dict({"weight": torch.from_numpy(W), "bias": torch.from_numpy(b)})
    return layer


def _weights_of(model: Fitted, weights: BackboneWeights | str | Path | None) -> BackboneWeights:
    if not isinstance(weights, BackboneWeights):
        return load_backbone_for(model.spec, weights, model.path)
    model.spec.check_same(
        dataclasses.replace(model.spec, backbone_digest=weights.digest),
        this="the model",
        that=f"the weights from {weights.source}",
        remedy="give the weights that it was fitted with",
    )
    return weights


def _normalizer_module(normalizer: BaseEstimator | str) -> nn.Module:
    if isinstance(normalizer, BlockNormalizer):
        return BlockPower(normalizer.widths_, normalizer.power)
    if isinstance(normalizer, StandardScaler):
        return Standardize(normalizer.mean_, normalizer.scale_)
    return nn.Identity()


def _pipeline_of(module: ImageClassifier, model: Fitted, kind: str) -> Pipeline:
    """The module's head behind the model's normalizer, with what the model's own was to be fitted with."""
    multilabel = is_multilabel(model.estimator)
    hidden, (W, b) = _layers_of(module, one_row=len(model.classes) == 2 and not multilabel)
    before = getattr(model.estimator.named_steps["head"], "estimator", model.estimator.named_steps["head"])
    kept = {name: getattr(before, name) for name in ("C", "class_weight", "random_state")}
    if kind != model.head and isinstance(kept["class_weight"], Mapping):
        # Weights by class are no weights of a class against the rest.
        kept["class_weight"] = None
    parts = (W, b, np.array(model.classes), model.estimator.named_steps["normalizer"])
    return add_hidden_layer(from_linear_parts(kind, *parts, **kept, multilabel=multilabel), hidden)


def _same_head(one: Pipeline, other: Pipeline) -> bool:
    """Whether two heads have the same layers with the same weights, to a module's precision."""
    arrays = [
        [*linear_parts(pipeline, np.float32), *((hidden.coef_, hidden.intercept_) if hidden else ())]
        for pipeline, hidden in ((pipeline, get_hidden_layer(pipeline)) for pipeline in (one, other))
    ]
    return len(arrays[0]) == len(arrays[1]) and all(map(np.array_equal, *arrays))


def _layers_of(module: ImageClassifier, *, one_row: bool) -> tuple[HiddenLayer | None, tuple[np.ndarray, np.ndarray]]:
    """The hidden layer, if there is one, and weights and intercepts of the last."""
    layers = [layer for layer in module.head.modules() if not isinstance(layer, TRANSPARENT)]
    kinds = [type(layer) for layer in layers]
    if kinds not in ([nn.Linear], [nn.Linear, nn.ReLU, nn.Linear]):
        got = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise ModelError(
            f"head of the module must be one linear layer, or two with ReLU between, to become a model, got {got}"
        )
    hidden = HiddenLayer.from_parts(*_arrays_of(layers[0])) if len(layers) > 1 else None
    W, b = _arrays_of(layers[-1])
    return hidden, ((W[1:] - W[:1], b[1:] - b[:1]) if one_row and len(W) == 2 else (W, b))


def _arrays_of(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    parts = {name: values.detach().float().cpu().numpy().copy() for name, values in layer.state_dict().items()}
    return parts["weight"], parts.get("bias", np.zeros(len(parts["weight"]), np.float32))


def _backbone_of(module: ImageClassifier, before: BackboneWeights, name: str) -> BackboneWeights:
    trained = {
        key: np.ascontiguousarray(values.detach().float().cpu().numpy())
        for key, values in module.backbone.state_dict().items()
    }
    tensors = {**before.tensors, **trained}
    digest = backbone_digest(tensors)
    if digest == before.digest:
        return before
    return BackboneWeights(name, digest, before.preprocessing, f"{before.name}, fine-tuned", tensors)
