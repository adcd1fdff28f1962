"""One ONNX file: images of any size in, class probabilities out. onnxruntime runs it alone."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

from featx.backbones import BackboneWeights
from featx.errors import EngineError
from featx.exporting.facts import facts_of
from featx.exporting.onnx_graph import Graph
from featx.exporting.onnx_network import add_answer, add_decisions, add_features, has_probabilities
from featx.exporting.onnx_resize import Resizer
from featx.models import Model

INPUT = "images"


class OnnxFile:
    """A model as an ONNX file; ``answers`` is what its output is and is called."""

    def __init__(self, model: Model, backbone: BackboneWeights) -> None:
        self._model, self._backbone = model, backbone
        self.answers = "probabilities" if has_probabilities(model) else "decisions"

    def write(self, path: Path) -> None:
        """Write: ``images``, uint8 (n, height, width, 3) RGB, to float32 (n, classes); facts as ``metadata_props``."""
        model, graph = self._model, Graph()
        features = add_features(graph, Resizer(graph, model.spec)(INPUT), model.spec, self._backbone.tensors)
        answer = add_answer(graph, add_decisions(graph, features, model), model)
        source = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", "height", "width", 3])
        target = helper.make_tensor_value_info(self.answers, TensorProto.FLOAT, ["n", len(model.classes)])
        proto = graph.finish(answer, source, target)
        helper.set_model_props(proto, {name: json.dumps(value) for name, value in facts_of(model).items()})
        path.write_bytes(proto.SerializeToString(deterministic=True))

    def run(self, path: Path, pictures: Sequence[Image.Image]) -> np.ndarray:
        """The file's answers for RGB pictures of any size: (pictures, classes)."""
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise EngineError(
                f"--format onnx is checked by onnxruntime: pip install 'featx[export]' ({error})"
            ) from error
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {INPUT: np.asarray(picture)[None]})[0] for picture in pictures])

    def expected(self, features: np.ndarray) -> np.ndarray:
        """What featx answers for the pictures' features."""
        if self._model.has_probabilities:
            return self._model.predict_proba(features)
        decisions = self._model.decision_function(features)
        return np.column_stack((-decisions, decisions)) if decisions.ndim == 1 else decisions
