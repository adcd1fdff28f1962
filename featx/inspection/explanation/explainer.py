"""Explain: where in an image a model sees a class.

With average pooling and a linear head the class activation map of Zhou et al. (2016), "Learning deep features for
discriminative localization", is exact arithmetic: a logit is a sum over positions, plus an intercept.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from featx.backbones import BACKBONES, BackboneWeights
from featx.engines import find_device, full_float32
from featx.errors import ImageError, SpecError
from featx.heads import hidden_of
from featx.images import MAX_PIXELS, load_file
from featx.inspection.explanation.drawing import draw_explanation, overlay
from featx.inspection.explanation.maps import ClassMap, Explanation, sum_maps
from featx.inspection.explanation.tail import Tail, grad_cam_maps, gradient_maps
from featx.models import Model, to_torch
from featx.runtime import Compute

__all__ = ["METHODS", "ClassMap", "Explainer", "Explanation", "draw_explanation", "explain", "overlay"]

METHODS = ("auto", "cam", "grad-cam")
SUMS = ("avg", "flat")
"""Pools that are linear in a block's output."""


class Explainer:
    """Explains images by one model, whose backbone is loaded once.

    Parameters
    ----------
    model : Model
        As `featx.load_model` gives it.
    compute : Compute, optional
        The device of the backbone, and ``max_pixels``. The engine is always torch, whose gradients are needed.
    method : str
        ``cam``, gradient × activation, which is exact where logits are linear in the blocks' outputs (a linear head on
        ``avg`` or ``flat`` pools, raw or standardized) and of first order elsewhere; ``grad-cam``; or ``auto``:
        Grad-CAM for a fine-tuned backbone, a hidden layer and other pools, unless ``cam`` is exact.
    weights : BackboneWeights or path, optional
        As in `featx.models.torch_bridge.to_torch`.

    Raises
    ------
    SpecError
        If there is no such method.
    SpecMismatch, WeightsError
        If the weights are not those that the model was fitted with, or are not to be had.
    EngineError
        If the device is not there.
    """

    def __init__(
        self,
        model: Model,
        compute: Compute | None = None,
        *,
        method: str = "auto",
        weights: BackboneWeights | str | Path | None = None,
    ) -> None:
        compute = compute or Compute()
        if method not in METHODS:
            raise SpecError(f"--method of explain must be one of {', '.join(METHODS)}, got {method!r}")
        self.spec, self.classes = model.spec.plain, model.classes
        linear = _is_linear(model)
        special = (
            model.spec.backbone not in BACKBONES or hidden_of(model.estimator) or not set(self.spec.pools) <= {*SUMS}
        )
        self.method = ("grad-cam" if special and not linear else "cam") if method == "auto" else method
        self.exact = linear and self.method == "cam"
        self._precision, self._max_pixels = model.spec.precision, compute.max_pixels or MAX_PIXELS
        self._device = find_device(compute.device)
        module = to_torch(model, weights).eval()
        self._tail = Tail(module).double()
        with torch.no_grad():
            # Of nothing, what is left of a logit is its intercept.
            self._intercepts = self._tail.logits(torch.zeros(1, self.spec.width, dtype=torch.float64))[0]
        self._preprocess = module.preprocess.to(self._device)
        self._backbone = module.backbone.to(self._device).to(memory_format=torch.channels_last)

    def __call__(
        self, image: str | Path | NDArray[np.uint8], *, top: int = 3, classes: Sequence[str] | None = None
    ) -> Explanation:
        """Explain one image; all is computed in fp32, whatever the spec's precision.

        Parameters
        ----------
        image : path, or uint8 array (size, size, 3)
            A file, or pixels as the backbone sees them.
        top : int
            How many classes, best first.
        classes : sequence of str, optional
            These instead, in this order.

        Raises
        ------
        ImageError
            If the image cannot be read, or has another size.
        SpecError
            If the model has no such class.
        EngineError
            If Grad-CAM's package is not installed.
        """
        pixels = self._pixels(image)
        tapped = self._taps(pixels)
        with torch.no_grad():
            logits = self._tail(*tapped.values())[0]
        codes = logits.argsort(descending=True, stable=True)[: max(top, 1)].tolist()
        if classes is not None:
            codes = [self._code(name) for name in classes]
        found = tuple(self._explain(tapped, code, float(logits[code])) for code in codes)
        name = "" if isinstance(image, np.ndarray) else str(image)
        return Explanation(name, pixels, found, self.method, self.exact, self._precision)

    def _pixels(self, image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        wanted = (self.spec.size, self.spec.size, 3)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.shape != wanted:
                raise ImageError(f"pixels to explain must be uint8 {wanted}, got {image.dtype} {image.shape}")
            return image
        path = Path(image)
        loaded = load_file(path, self.spec, self._max_pixels)
        if loaded.pixels is None:
            raise ImageError(f"{path}: {loaded.reason}")
        return loaded.pixels

    def _taps(self, pixels: NDArray[np.uint8]) -> dict[int, Tensor]:
        """The tapped blocks' outputs, on the CPU in float64, (1, channels, height, width) each."""
        images = torch.tensor(pixels, device=self._device).permute(2, 0, 1)[None]
        with torch.no_grad(), full_float32():
            tapped = self._backbone(self._preprocess(images))
        return {number: output.cpu().double() for number, output in tapped.items()}

    def _code(self, name: str) -> int:
        if name not in self.classes:
            listed = ", ".join(self.classes)
            raise SpecError(f"--class of explain must be among the model's classes, {listed}, got {name!r}")
        return self.classes.index(name)

    def _explain(self, tapped: dict[int, Tensor], code: int, logit: float) -> ClassMap:
        make = gradient_maps if self.method == "cam" else grad_cam_maps
        exact = {number: values.numpy() for number, values in make(self._tail, tapped, code).items()}
        maps = {number: values.astype(np.float32) for number, values in exact.items()}
        left = logit - sum(float(values.sum()) for values in exact.values())
        intercept = float(self._intercepts[code]) if self.exact else left if self.method == "cam" else None
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
    """Where a model sees its best classes in one image, or those that are asked for; for many images `Explainer`.

    Parameters and errors are those of `Explainer` and of calling it.
    """
    return Explainer(model, compute, method=method, weights=weights)(image, top=top, classes=classes)


def _is_linear(model: Model) -> bool:
    """Whether logits are linear in the blocks' outputs, but for an intercept."""
    normalizer = model.estimator.named_steps["normalizer"]
    plain = isinstance(normalizer, StandardScaler) or normalizer == "passthrough"
    return plain and hidden_of(model.estimator) is None and set(model.spec.pools) <= {*SUMS}
