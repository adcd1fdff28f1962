"""Explain a prediction: compute where in an image a model sees a class.

With average pooling and a linear head, the class activation map of Zhou et al. (2016), "Learning deep features for
discriminative localization", is exact: a logit is a sum over positions plus an intercept.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from featx.backbones import BACKBONES, BackboneWeights, get_pooling
from featx.engines import disable_tf32, find_device
from featx.errors import ImageError, SpecError
from featx.heads import get_hidden_layer
from featx.images import MAX_PIXELS, load_file
from featx.inspection.explanation.class_maps import ClassMap, Explanation, sum_maps
from featx.inspection.explanation.gradients import FeatureMapHead, grad_cam_maps, gradient_maps
from featx.models import Model, to_torch
from featx.runtime import Compute

METHODS = ("auto", "cam", "grad-cam")


class Explainer:
    """Explain the predictions of one model for many images. The backbone is loaded once.

    Parameters
    ----------
    model : Model
        As `featx.load_model` returns it.
    compute : Compute, optional
        Only ``device`` and ``max_pixels`` may be set. The engine is always torch, because gradients are needed.
    method : {"auto", "cam", "grad-cam"}
        ``cam`` is gradient × activation. It is exact if the logits are linear in the feature maps: with a linear head
        on raw or standardized features of ``avg`` or ``flat`` pooling. Otherwise it is a first-order approximation.
        ``auto`` takes ``cam`` where it is exact, and Grad-CAM for fine-tuned backbones, hidden layers and other
        poolings.
    weights : BackboneWeights or path, optional
        Weights of the backbone, if they differ from the known weights of this name.

    Raises
    ------
    SpecError
        If ``method`` is unknown, or ``compute`` sets a field other than ``device`` and ``max_pixels``.
    SpecMismatch, WeightsError
        If the weights differ from the weights of the model, or are not available.
    EngineError
        If the device is not available.
    """

    def __init__(
        self,
        model: Model,
        compute: Compute | None = None,
        *,
        method: str = "auto",
        weights: BackboneWeights | str | Path | None = None,
    ) -> None:
        if method not in METHODS:
            raise SpecError(f"--method of explain must be one of {', '.join(METHODS)}, got {method!r}")
        compute = compute or Compute()
        compute.check_unused("explain", "engine", "batch_size", "workers", "executor", "shard")
        self.spec, self.classes = model.spec.plain, model.classes
        linear = _is_linear(model)
        prefer_grad_cam = (
            model.spec.backbone not in BACKBONES or get_hidden_layer(model.estimator) or not _has_linear_pools(model)
        )
        self.method = ("grad-cam" if prefer_grad_cam and not linear else "cam") if method == "auto" else method
        self.exact = linear and self.method == "cam"
        self._precision, self._max_pixels = model.spec.precision, compute.max_pixels or MAX_PIXELS
        self._device = find_device(compute.device)
        module = to_torch(model, weights).eval()
        self._head = FeatureMapHead(module).double()
        with torch.no_grad():
            # The logits of all-zero features are the intercepts.
            self._intercepts = self._head.logits(torch.zeros(1, self.spec.width, dtype=torch.float64))[0]
        self._preprocess = module.preprocess.to(self._device)
        self._backbone = module.backbone.to(self._device).to(memory_format=torch.channels_last)

    def __repr__(self) -> str:
        exact = ", exact" if self.exact else ""
        return f"Explainer({self.method}{exact}, {len(self.classes)} classes, on {self._device})"

    def __call__(
        self, image: str | Path | NDArray[np.uint8], *, top: int = 3, classes: Sequence[str] | None = None
    ) -> Explanation:
        """Explain one image. Everything is computed in fp32, even if the model predicts in another precision.

        Parameters
        ----------
        image : path, or uint8 array (size, size, 3)
            An image file, or pixels at the size that the backbone takes.
        top : int
            Number of classes to explain. The classes with the highest logits are taken.
        classes : sequence of str, optional
            Explain these classes instead of the ``top`` ones, in this order.

        Returns
        -------
        Explanation

        Raises
        ------
        ImageError
            If the image cannot be read, or an array has another shape or dtype.
        SpecError
            If the model has no class of a given name.
        """
        pixels = self._pixels(image)
        feature_maps = self.feature_maps(pixels)
        logits = self.logits(feature_maps)
        codes = logits.argsort(descending=True, stable=True)[: max(top, 1)].tolist()
        if classes is not None:
            codes = [self._code(name) for name in classes]
        maps = tuple(self._class_map(feature_maps, code, float(logits[code])) for code in codes)
        name = "" if isinstance(image, np.ndarray) else str(image)
        return Explanation(name, pixels, maps, self.method, self.exact, self._precision)

    def feature_maps(self, pixels: NDArray[np.uint8]) -> dict[int, Tensor]:
        """Run the backbone on pixels, uint8 (size, size, 3).

        Returns the feature maps by block number: float64 (1, channels, height, width), on the CPU.
        """
        images = torch.tensor(pixels, device=self._device).permute(2, 0, 1)[None]
        with torch.no_grad(), disable_tf32():
            outputs = self._backbone(self._preprocess(images))
        return {number: output.cpu().double() for number, output in outputs.items()}

    def logits(self, feature_maps: Mapping[int, Tensor]) -> Tensor:
        """Compute logits, float64 (classes,), from feature maps as `feature_maps` returns them."""
        with torch.no_grad():
            logits: Tensor = self._head(*feature_maps.values())[0]
        return logits

    def _pixels(self, image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        shape = (self.spec.size, self.spec.size, 3)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.shape != shape:
                raise ImageError(f"pixels to explain must be uint8 {shape}, got {image.dtype} {image.shape}")
            return image
        path = Path(image)
        loaded = load_file(path, self.spec, self._max_pixels)
        if loaded.pixels is None:
            raise ImageError(f"{path}: {loaded.reason}")
        return loaded.pixels

    def _code(self, name: str) -> int:
        if name not in self.classes:
            names = ", ".join(self.classes)
            raise SpecError(f"--class of explain must be one of the model's classes, {names}, got {name!r}")
        return self.classes.index(name)

    def _class_map(self, feature_maps: dict[int, Tensor], code: int, logit: float) -> ClassMap:
        compute_maps = gradient_maps if self.method == "cam" else grad_cam_maps
        maps64 = {number: values.numpy() for number, values in compute_maps(self._head, feature_maps, code).items()}
        maps = {number: values.astype(np.float32) for number, values in maps64.items()}
        rest = logit - sum(float(values.sum()) for values in maps64.values())
        intercept = float(self._intercepts[code]) if self.exact else rest if self.method == "cam" else None
        return ClassMap(self.classes[code], logit, intercept, maps, sum_maps(maps, self.spec.size))


def explain(
    model: Model,
    image: str | Path | NDArray[np.uint8],
    compute: Compute | None = None,
    *,
    top: int = 3,
    classes: Sequence[str] | None = None,
    method: str = "auto",
    weights: BackboneWeights | str | Path | None = None,
) -> Explanation:
    """Compute where in one image a model sees its most likely classes.

    For many images, use `Explainer`, which loads the backbone once. `Explainer` also describes the parameters and
    errors.

    Returns
    -------
    Explanation
    """
    return Explainer(model, compute, method=method, weights=weights)(image, top=top, classes=classes)


def _is_linear(model: Model) -> bool:
    """Whether the logits are linear in the feature maps, apart from the intercept."""
    normalizer = model.estimator.named_steps["normalizer"]
    plain = isinstance(normalizer, StandardScaler) or normalizer == "passthrough"
    return plain and get_hidden_layer(model.estimator) is None and _has_linear_pools(model)


def _has_linear_pools(model: Model) -> bool:
    return all(get_pooling(pool).linear for pool in model.spec.pools)
