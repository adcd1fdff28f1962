"""Export: a model as one file that runs without featx, checked against featx before it is there."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from featx.backbones import BackboneWeights
from featx.engines import compute_reference_features, load_backbone_for, make_engine
from featx.errors import EngineError, ModelError
from featx.files import atomic_write, infer_format
from featx.images import draw_reference_images
from featx.models import Model
from featx.runtime import import_optional

SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}
"""Formats, and how their files' names end."""
LIMIT = 1e-3
"""The most that an answer may be off: as it is for probabilities, and relative to the largest for others above 1."""


@dataclass(frozen=True)
class Exported:
    """A file that was written: what it answers, and how far that is from featx on the three golden pictures."""

    path: Path
    answers: str
    difference: float
    bytes: int


class ExportFile(Protocol):
    """One format's way of writing a model and of running what was written."""

    answers: str

    def write(self, path: Path) -> None:
        """Write the file."""

    def run(self, path: Path, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The file's answers for RGB pictures."""

    def expected(self, features: np.ndarray) -> np.ndarray:
        """What featx answers for the pictures' features."""


def export(
    model: Model,
    path: str | Path,
    form: str | None = None,
    *,
    weights: str | Path | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model as a file for other programs, whole or not at all.

    The file computes in float32, whatever the spec's precision class, and is checked against featx in fp32. Pictures
    come to it decoded: upright, in RGB and, where the spec's ``decode`` is ``scaled``, at that scale.

    Parameters
    ----------
    model : Model
        As `featx.load_model` gives it.
    path : path
        The file to write.
    form : str, optional
        ``onnx``: from images, uint8 (n, height, width, 3) RGB of any size, to probabilities (n, classes), preprocessing
        included; a head that has none gives its decisions. ``safetensors``: the weights under torchvision's names.
        ``torch``: a ``torch.export`` program from uint8 (n, 3, size, size) to logits, as `featx.models.torch_bridge.to_torch`. By
        default what the path's suffix says, else ``onnx``.
    weights : path, optional
        A weights file to take instead of the known sources.
    overwrite : bool
        Replace what is there.

    Raises
    ------
    SpecError
        If the format is not known, or ``path`` has the suffix of another.
    ModelError
        If ``path`` is there without ``overwrite``, or cannot be written.
    EngineError
        If the file does not give featx's answers, or cannot be run here; it is not left behind.
    SpecMismatch, WeightsError
        If the weights are not those that the model was fitted with, or are not to be had.
    """
    path = Path(path)
    form = infer_format(path, form, SUFFIXES, "--format of export", "onnx")
    if path.exists() and not overwrite:
        raise ModelError(f"{path} is there already; choose another --output, or replace it with --overwrite")
    backbone = load_backbone_for(model.spec, weights, model.path)
    file = _make_file(model, backbone, form)
    with atomic_write(path, ModelError) as temporary:
        file.write(temporary)
        difference = _check(file, temporary, model, backbone)
    return Exported(path, file.answers, difference, path.stat().st_size)


def _make_file(model: Model, backbone: BackboneWeights, form: str) -> ExportFile:
    if form == "onnx":
        from featx.exporting.onnx_file import OnnxFile

        return OnnxFile(model, backbone)
    import_optional("torch", "torch", f"--format {form} of export")
    from featx.exporting.torch_files import ProgramFile, SafetensorsFile

    return SafetensorsFile(model, backbone) if form == "safetensors" else ProgramFile(model, backbone)


def _check(file: ExportFile, path: Path, model: Model, backbone: BackboneWeights) -> float:
    """The largest difference from featx's answers; ``EngineError`` if it is above `LIMIT`."""
    engine = make_engine(backbone, dataclasses.replace(model.spec, precision="fp32", calibration=()), "cpu")
    expected = file.expected(np.hstack(list(compute_reference_features(engine).values())))
    difference = float(np.abs(file.run(path, draw_reference_images()) - expected).max())
    limit = LIMIT * max(1.0, float(np.abs(expected).max()))
    if not difference <= limit:
        raise EngineError(
            f"{file.answers} of the exported file must be within {limit:.2g} of featx's, got {difference:.2g} on the "
            "golden pictures: this machine's versions of its libraries compute something else; nothing was written"
        )
    return difference
