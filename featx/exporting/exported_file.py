"""Export a model as one file that runs without featx; the file is checked against featx before it is kept."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from featx.backbones import PREPROCESSINGS, BackboneWeights
from featx.engines import compute_reference_features, load_backbone_for, make_engine
from featx.errors import EngineError, ModelError, SpecError
from featx.files import atomic_write, infer_format
from featx.images import draw_reference_images
from featx.models import Model
from featx.runtime import import_optional
from featx.version import __version__

SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}
"""Formats and the suffixes of their files."""
TOLERANCE = 1e-3
"""Largest accepted difference from featx: absolute for probabilities, relative to the largest value for others."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that `export` wrote.

    Parameters
    ----------
    path : Path
        The file.
    answers : str
        What it computes: ``probabilities``, ``decisions`` or ``logits``.
    difference : float
        Largest absolute difference from featx on the three reference images.
    bytes : int
        Size of the file.
    """

    path: Path
    answers: str
    difference: float
    bytes: int


class ExportFormat(Protocol):
    """How one format writes a model, and how it runs a written file."""

    answers: str

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the file; metadata are values for JSON."""

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Compute the file's answers for RGB images, (images, outputs)."""

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the answers of featx from the features of the same images, (images, outputs)."""


def export(
    model: Model,
    path: str | Path,
    format: str | None = None,
    *,
    weights: str | Path | None = None,
    overwrite: bool = False,
) -> ExportedFile:
    """Write a model as one file that runs without featx, completely or not at all.

    The file computes in float32, whatever the precision class of the spec. It is run on the reference images, and kept
    only if its answers agree with those of featx in fp32. It expects decoded images: upright, RGB and, if the spec's
    ``decode`` is ``scaled``, at that scale.

    Parameters
    ----------
    model : Model
        From `featx.load_model` or `featx.fit`.
    path : path
        The file to write.
    format : {"onnx", "safetensors", "torch"}, optional
        By default the format of the path's suffix; without a suffix it is ``onnx``.

        ``onnx``: a graph from images, uint8 (n, height, width, 3) RGB of any size, to probabilities (n, classes);
        preprocessing is part of it. A head without probabilities gives decisions.

        ``safetensors``: the weights under torchvision's names.

        ``torch``: a ``torch.export`` program from uint8 (n, 3, size, size) RGB to the logits of
        `featx.Model.to_torch`.
    weights : path, optional
        Read the backbone's weights from this file only.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    ExportedFile
        What was written, and how much it differs from featx.

    Raises
    ------
    SpecError
        If the format is unknown, or the path's suffix is that of another format or of none.
    ModelError
        If ``path`` exists and ``overwrite`` is false, or it cannot be written.
    EngineError
        If the answers of the file differ from those of featx, or a package that the format needs is missing; then no
        file is left behind.
    SpecMismatch, WeightsError
        If the weights are not those that the model was fitted with, or cannot be found.
    """
    path = Path(path)
    chosen = _choose_format(path, format)
    if path.exists() and not overwrite:
        raise ModelError(f"{path} exists already; choose another --output, or replace it with --overwrite")
    backbone = load_backbone_for(model.spec, weights, model.path)
    exporter = _make_exporter(model, backbone, chosen)
    with atomic_write(path, ModelError) as temporary:
        exporter.write(temporary, describe_model(model))
        difference = _check(exporter, temporary, model, backbone)
    return ExportedFile(path, exporter.answers, difference, path.stat().st_size)


def _choose_format(path: Path, name: str | None) -> str:
    endings = list(SUFFIXES.values())
    if name is None and path.suffix and path.suffix.lower() not in endings:
        raise SpecError(
            f"--output of export must end in {', '.join(endings[:-1])} or {endings[-1]}, got {path.name}; "
            "change the suffix, or name the format by --format"
        )
    return infer_format(path, name, SUFFIXES, "--format of export", "onnx")


def _make_exporter(model: Model, backbone: BackboneWeights, name: str) -> ExportFormat:
    if name == "onnx":
        from featx.exporting.onnx_file import OnnxFormat

        return OnnxFormat(model, backbone)
    import_optional("torch", "torch", f"--format {name} of export")
    from featx.exporting.torch_files import ProgramFormat, SafetensorsFormat

    return SafetensorsFormat(model, backbone) if name == "safetensors" else ProgramFormat(model, backbone)


def describe_model(model: Model) -> dict[str, Any]:
    """Collect the metadata of an exported file, as values for JSON: what a program needs to use its answers."""
    preprocessing = PREPROCESSINGS[model.spec.preprocessing]
    normalizer = model.estimator.named_steps["normalizer"]
    kind = normalizer if isinstance(normalizer, str) else type(normalizer).__name__
    parameters = {"widths": normalizer.widths_, "power": normalizer.power} if kind == "BlockNormalizer" else {}
    calibration = model.calibration and {
        "slope": model.calibration.slope.tolist(),
        "intercept": model.calibration.intercept.tolist(),
    }
    return {
        "featx": __version__,
        "head": model.head,
        "classes": model.classes,
        "multilabel": model.multilabel,
        "spec": json.loads(model.spec.to_json()),
        "preprocessing": {"mean": preprocessing.mean, "std": preprocessing.std},
        "normalizer": {"kind": kind, **parameters},
        # One sigmoid per class, which turns decisions into probabilities; null for an uncalibrated model.
        "calibration": calibration,
    }


def _check(exporter: ExportFormat, path: Path, model: Model, backbone: BackboneWeights) -> float:
    """Return the largest difference from featx; raise ``EngineError`` if it is too large."""
    engine = make_engine(backbone, dataclasses.replace(model.spec, precision="fp32", calibration=()), "cpu")
    expected = exporter.expected(np.hstack(list(compute_reference_features(engine).values())))
    difference = float(np.abs(exporter.run(path, draw_reference_images()) - expected).max())
    limit = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:
        raise EngineError(
            f"{exporter.answers} of the exported file must differ by at most {limit:.2g} from those of featx on the "
            f"reference images, got {difference:.2g}; no file was written; try another version of onnxruntime or torch"
        )
    return difference
