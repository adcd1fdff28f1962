"""Export a model as one file that runs without featx. The file is kept only if its answers agree with featx."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from featx.backbones import BackboneWeights
from featx.engines import compute_reference_features, load_backbone_for, make_engine
from featx.errors import EngineError, ModelError, SpecError
from featx.exporting.metadata import INPUTS
from featx.files import atomic_write, infer_format
from featx.images import draw_reference_images
from featx.models import Model
from featx.runtime import import_optional

SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torch": ".pt2"}
"""The formats, and the suffix of the files of each format."""
TOLERANCE = 1e-3
"""Largest accepted difference between the answers of the file and the answers of featx. The difference of probabilities
is absolute. The difference of decisions and logits is relative to their largest value if this value is above 1."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that `export` wrote.

    Parameters
    ----------
    path : Path
        The file.
    answers : str
        What the file computes: ``probabilities``, ``decisions`` or ``logits``.
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
    """The methods of an export format: it writes a model as a file, and it runs that file."""

    answers: str

    def write(self, path: Path) -> None:
        """Write the file, with the metadata of the model."""

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Run the file on RGB images and return its answers, (images, outputs)."""

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the answers that featx gives for the features of the same images, (images, outputs)."""


def export(
    model: Model,
    path: str | Path,
    format: str | None = None,
    *,
    input: str = "images",
    weights: str | Path | None = None,
    overwrite: bool = False,
) -> ExportedFile:
    """Write a model as one file that runs without featx. If an error occurs, no file is written.

    The file always computes in float32, even if the spec has another precision class. featx runs the file on the
    reference images, and keeps it only if it gives the same answers as featx in fp32, up to rounding. The file takes
    decoded RGB images that are upright. If the spec's ``decode`` is ``scaled``, the images must be decoded at the same
    scale.

    The class that `featx.Model.predict` returns for an image has the largest answer. In a multi-label file, an image
    has all classes whose probability is above 0.5, or whose decision or logit is above 0. The metadata name the
    classes, the input, and the function that turns logits into probabilities.

    Parameters
    ----------
    model : Model
        From `featx.load_model` or `featx.fit`.
    path : path
        The file to write.
    format : {"onnx", "safetensors", "torch"}, optional
        The format of the file. By default the suffix of ``path`` decides. Without a suffix, it is ``onnx``.

        ``onnx``: a graph that computes probabilities (n, classes), and the index of the predicted class (n,) as
        ``label``. If the head has no probabilities, the graph computes decisions instead. For a multi-label model,
        ``label`` is (n, classes), 1 for each predicted class.

        ``safetensors``: the weights under torchvision's names.

        ``torch``: a ``torch.export`` program that computes the logits of `featx.Model.to_torch`.
    input : {"images", "tensor"}
        What the file takes.

        ``images``: RGB as bytes. An ONNX file takes images of any size, uint8 (n, height, width, 3), and resizes them
        as featx does. The resizing computes in float64 and needs about 30 bytes of memory per pixel of the original
        image: 0.7 GB for 24 megapixels. A ``torch.export`` program takes uint8 (n, 3, size, size).

        ``tensor``: RGB as float32 (n, 3, size, size), with values from 0 to 1, for GPUs, browsers and phones. You
        resize the images to the model's size. The file does the rest of the preprocessing. It does not use float64.
    weights : path, optional
        Read the backbone's weights only from this file.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    ExportedFile
        The file that was written, and how much its answers differ from featx.

    Raises
    ------
    SpecError
        If the format or the input is unknown, or if the format does not allow the input or the suffix of ``path``.
    ModelError
        If ``path`` exists and ``overwrite`` is false, or if ``path`` cannot be written.
    EngineError
        If the answers of the file differ too much from featx, or if a package that the format needs is missing.
    SpecMismatch, WeightsError
        If the weights differ from the weights that the model was fitted with, or if they cannot be found.
    """
    path = Path(path)
    chosen = _choose_format(path, format)
    if input not in INPUTS:
        raise SpecError(f"--input of export must be {' or '.join(INPUTS)}, got {input!r}")
    if chosen == "safetensors" and input != "images":
        raise SpecError(
            f"--input {input} of export is for onnx and torch; a safetensors file has only weights: leave it out"
        )
    if path.exists() and not overwrite:
        raise ModelError(f"{path} exists already; choose another --output, or replace it with --overwrite")
    backbone = load_backbone_for(model.spec, weights, model.path)
    exporter = _make_exporter(model, backbone, chosen, input)
    with atomic_write(path, ModelError) as temporary:
        exporter.write(temporary)
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


def _make_exporter(model: Model, backbone: BackboneWeights, format: str, input: str) -> ExportFormat:
    if format == "onnx":
        from featx.exporting.onnx_file import OnnxFormat

        return OnnxFormat(model, backbone, input)
    import_optional("torch", "torch", f"--format {format} of export")
    from featx.exporting.torch_files import ProgramFormat, SafetensorsFormat

    return SafetensorsFormat(model, backbone) if format == "safetensors" else ProgramFormat(model, backbone, input)


def _check(exporter: ExportFormat, path: Path, model: Model, backbone: BackboneWeights) -> float:
    """Return the largest difference between the answers of a file and the answers of featx.

    Raises
    ------
    EngineError
        If the difference is too large.
    """
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
