"""Write a model as a file for torch: its weights under torchvision's names, or a ``torch.export`` program."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.export import Dim

from featx.backbones import BackboneWeights
from featx.images import preprocess
from featx.models import Model, to_torch

PREFIXES = {"backbone.features.": "features.", "head.": "classifier."}
"""The beginnings of parameter names in featx's module, and what stands for each of them in the file."""
METADATA_FILE = "featx.json"


class _TorchFormat:
    """The base class of both formats for torch. Their answers are logits."""

    answers = "logits"

    def __init__(self, model: Model, backbone: BackboneWeights) -> None:
        self._model, self._module = model, to_torch(model, backbone).eval()

    def expected(self, features: np.ndarray) -> np.ndarray:
        """Compute the logits that featx gives for the features of images, (images, outputs)."""
        return self._model.decision_function(features).reshape(len(features), -1)

    def _logits(self, module: torch.nn.Module, images: Sequence[Image.Image]) -> np.ndarray:
        pixels = np.stack([preprocess(image, self._model.spec) for image in images])
        with torch.inference_mode():
            logits: np.ndarray = module(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
        return logits


class SafetensorsFormat(_TorchFormat):
    """Writes the weights of a model as a safetensors file."""

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the tensors ``features.{i}.weight`` to ``classifier.bias``, and metadata as JSON under ``featx``."""
        tensors = {_file_name(name): values.contiguous() for name, values in self._module.state_dict().items()}
        # There is only one key, because safetensors writes keys in random order. Equal models must have equal bytes.
        save_file(tensors, path, {"featx": json.dumps(metadata)})

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Compute the logits of images with the weights in the file, (images, outputs)."""
        tensors = load_file(path)
        self._module.load_state_dict({name: tensors[_file_name(name)] for name in self._module.state_dict()})
        return self._logits(self._module, images)


class ProgramFormat(_TorchFormat):
    """Writes a model as a ``torch.export`` program."""

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the program, which computes logits from RGB images, uint8 (n, 3, size, size).

        The metadata are in the file ``featx.json`` inside the program's file.
        """
        size = self._model.spec.size
        # The example has two images, because after an example of one image the program would take only one image.
        example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        program = torch.export.export(self._module, (example,), dynamic_shapes=({0: Dim("n")},))
        # The program is first written to memory, because torch needs a path with the suffix .pt2.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={METADATA_FILE: json.dumps(metadata)})
        path.write_bytes(buffer.getvalue())

    def run(self, path: Path, images: Sequence[Image.Image]) -> np.ndarray:
        """Compute the logits of images with the program, (images, outputs)."""
        return self._logits(torch.export.load(io.BytesIO(path.read_bytes())).module(), images)


def _file_name(name: str) -> str:
    """Return the name that a parameter of featx's module has in the file."""
    for inside, outside in PREFIXES.items():
        if name.startswith(inside):
            return outside + name.removeprefix(inside)
    return name
