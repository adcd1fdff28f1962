"""Files for torch: weights under torchvision's names, and a program of ``torch.export``. Both give logits."""

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
from featx.exporting.facts import facts_of
from featx.images import preprocess
from featx.models import Model, to_torch

NAMES = {"backbone.features.": "features.", "head.": "classifier."}
"""How names of parameters begin in the module, and in the file."""
FACTS = "featx.json"


class _TorchFile:
    """What both files have in common."""

    answers = "logits"

    def __init__(self, model: Model, backbone: BackboneWeights) -> None:
        self._model, self._module = model, to_torch(model, backbone).eval()

    def expected(self, features: np.ndarray) -> np.ndarray:
        """What featx answers for the pictures' features."""
        return self._model.decision_function(features).reshape(len(features), -1)

    def _logits(self, module: torch.nn.Module, pictures: Sequence[Image.Image]) -> np.ndarray:
        pixels = np.stack([preprocess(picture, self._model.spec) for picture in pictures])
        with torch.inference_mode():
            logits: np.ndarray = module(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
        return logits


class SafetensorsFile(_TorchFile):
    """The weights that a model uses, as a safetensors file."""

    def write(self, path: Path) -> None:
        """Write ``features.{i}.weight`` … ``classifier.bias``, with facts as JSON in the metadata ``featx``."""
        tensors = {_outside(name): values.contiguous() for name, values in self._module.state_dict().items()}
        # One entry: safetensors writes several in any order, and equal models shall have equal bytes.
        save_file(tensors, path, {"featx": json.dumps(facts_of(self._model))})

    def run(self, path: Path, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Logits (pictures, rows) with the weights in the file."""
        tensors = load_file(path)
        self._module.load_state_dict({name: tensors[_outside(name)] for name in self._module.state_dict()})
        return self._logits(self._module, pictures)


class ProgramFile(_TorchFile):
    """A model as a program of ``torch.export``."""

    def write(self, path: Path) -> None:
        """Write: uint8 (n, 3, size, size) RGB to logits (n, rows), with facts in the extra file ``featx.json``."""
        size = self._model.spec.size
        # Two images: a batch of one would be taken for one that is always one.
        example = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        program = torch.export.export(self._module, (example,), dynamic_shapes=({0: Dim("n")},))
        # Through memory: torch wants names that end in .pt2, and the temporary one does not.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={FACTS: json.dumps(facts_of(self._model))})
        path.write_bytes(buffer.getvalue())

    def run(self, path: Path, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Logits (pictures, rows) by the program."""
        return self._logits(torch.export.load(io.BytesIO(path.read_bytes())).module(), pictures)


def _outside(name: str) -> str:
    """A parameter's name in the file."""
    for inside, outside in NAMES.items():
        if name.startswith(inside):
            return outside + name.removeprefix(inside)
    return name
