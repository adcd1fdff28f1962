"""Write a model as a file for torch: its weights under torchvision's names, or a ``torch.export`` program."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.export import Dim

from featx.backbones import BackboneWeights
from featx.exporting.metadata import describe_input, describe_model
from featx.heads import class_decisions
from featx.images import preprocess
from featx.models import ImageClassifier, Model, to_torch

PREFIXES = {"backbone.features.": "features.", "head.": "classifier."}
"""Prefixes of parameter names in featx's module, and the prefixes that replace them in the file."""
METADATA_FILE = "featx.json"


class _TorchFormat:
    """The base class of both formats for torch. Their answers are logits."""

    answers = "logits"

    def __init__(self, model: Model, backbone: BackboneWeights) -> None:
        self._model, self._module = model, to_torch(model, backbone).eval()

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the logits that featx gives for the features of images, (images, classes)."""
        return class_decisions(self._model.decision_function(features))

    def _pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return images as uint8 (images, 3, size, size)."""
        return torch.from_numpy(np.stack([preprocess(image, self._model.spec) for image in images])).permute(0, 3, 1, 2)


class SafetensorsFormat(_TorchFormat):
    """Writes the weights of a model as a safetensors file."""

    def write(self, path: Path) -> None:
        """Write the tensors under torchvision's names, and the metadata as JSON under the key ``featx``."""
        tensors = {_file_name(name): values.contiguous() for name, values in self._module.state_dict().items()}
        # There is only one key, because safetensors writes keys in random order. Equal models must have equal bytes.
        save_file(tensors, path, {"featx": json.dumps(describe_model(self._model))})

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Compute the logits of images with the weights in the file, (images, classes)."""
        tensors = load_file(path)
        self._module.load_state_dict({name: tensors[_file_name(name)] for name in self._module.state_dict()})
        return _run_module(self._module, self._pixels(images))


class ProgramFormat(_TorchFormat):
    """Writes a model as a ``torch.export`` program. `featx.export` describes ``input``."""

    def __init__(self, model: Model, backbone: BackboneWeights, input: str = "images") -> None:
        super().__init__(model, backbone)
        self._input = input

    def write(self, path: Path) -> None:
        """Write the program, which computes logits from RGB images (n, 3, size, size).

        The metadata are in the file ``featx.json`` inside the program's file.
        """
        size = self._model.spec.size
        module = _FromUnitRange(self._module).eval() if self._input == "tensor" else self._module
        dtype = torch.float32 if self._input == "tensor" else torch.uint8
        # An example with one image would give a program that takes only one image, so the example has two.
        program = torch.export.export(
            module, (torch.zeros(2, 3, size, size, dtype=dtype),), dynamic_shapes=({0: Dim("n")},)
        )
        metadata = describe_model(self._model, input=describe_input(self._model, self._input, "NCHW"))
        # The program is first written to memory, because torch needs a path with the suffix .pt2.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata)})
        path.write_bytes(buffer.getvalue())

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Compute the logits of images with the program, (images, classes)."""
        pixels = self._pixels(images)
        program = torch.export.load(io.BytesIO(path.read_bytes()))
        return _run_module(program.module(), pixels / 255 if self._input == "tensor" else pixels)


class _FromUnitRange(torch.nn.Module):
    """Classify images with values from 0 to 1."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the logits (n, classes) of images, float32 (n, 3, size, size)."""
        logits: torch.Tensor = self.classifier(self.classifier.preprocess(255 * images))
        return logits


def _run_module(module: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        logits: np.ndarray = module(images).numpy()
    return logits


def _file_name(name: str) -> str:
    """Return the name that a parameter of featx's module has in the file."""
    for inside, outside in PREFIXES.items():
        if name.startswith(inside):
            return outside + name.removeprefix(inside)
    return name
