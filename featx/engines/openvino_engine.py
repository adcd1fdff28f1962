"""The OpenVINO engine: the same backbone, taps and pools, on the CPU, about half as fast again as torch there."""

from functools import cache

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from joblib import cpu_count

from featx.backbones import PREPROCESSINGS, BackboneWeights, Convolution, MaxPool, pool_blocks, run_blocks
from featx.engines.batching import BatchedEngine
from featx.engines.quantization import INPUT_LEVELS, KERNEL_LEVELS, input_range, kernel_bounds
from featx.spec import ExtractSpec

PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""Of what is computed in floats; int8 leaves pooling in float32."""
FEW = 4
"""Images that do not wait for a whole batch: the golden ones, or a single one to predict."""
PIXELS_A_CORE, MOST = 2 * 224**2, 16
"""Of a batch, which is no faster with more: on two cores 4 to 32 images of 224 px take the same time each, in every
precision, and 4 the least memory and start. Of smaller images more are faster, where they are decoded meanwhile."""
POSITIONS = np.array([2, 3])


class OpenVINOEngine(BatchedEngine):
    """Turns batches of images into features with OpenVINO, on the CPU.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's 26 tensors.
    spec : ExtractSpec
        What to tap and pool, at which size and precision.
    batch_size : int or None
        Images a pass; None is 2 of 224 pixels a core, or as much of others, of 4 to 16.
    threads : int or None
        What it computes in; None takes all cores.
    """

    def __init__(
        self, weights: BackboneWeights, spec: ExtractSpec, batch_size: int | None = None, threads: int | None = None
    ) -> None:
        fitting = PIXELS_A_CORE * (threads or cpu_count()) // spec.size**2
        super().__init__(spec, batch_size or min(MOST, max(FEW, fitting)))
        self._threads = {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._weights = weights
        self._compiled: dict[int, ov.CompiledModel] = {}

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        # A compiled model has one fixed shape and 150 MB, so there are two: a batch is filled up to either.
        rows = min(FEW, self.batch_size) if len(images) <= FEW else self.batch_size
        filler = np.zeros((rows - len(images), *images.shape[1:]), np.uint8)
        outputs = self._model(rows)(np.concatenate([images, filler]) if len(filler) else images)
        names = self.spec.widths
        return {name: values[: len(images)].copy() for name, values in zip(names, outputs.values(), strict=True)}

    def _model(self, rows: int) -> ov.CompiledModel:
        if rows not in self._compiled:
            options = {**_options(self.spec.precision), **self._threads}
            model = build_model(self._weights, self.spec, rows)
            self._compiled[rows] = _core().compile_model(model, "CPU", options)
        return self._compiled[rows]

    def _out_of_memory(self, error: Exception) -> bool:
        return super()._out_of_memory(error) or "bad_alloc" in str(error) or "allocate" in str(error)

    def _halve(self, error: Exception) -> None:
        super()._halve(error)
        self._compiled.clear()  # the larger one has its memory still


def _options(precision: str) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": _hint(precision),
        "PERFORMANCE_HINT": "LATENCY",
        # Each process would bind its threads to the same first cores: two workers of a machine to one.
        "ENABLE_CPU_PINNING": False,
    }


def _hint(precision: str) -> str:
    """What to ask of OpenVINO, which on a processor that has bfloat16 alone would take that for float16."""
    hint = PRECISIONS[precision]
    return hint if hint != "f16" or "FP16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


@cache
def _core() -> ov.Core:
    """One for the process, which stays.

    The CPU plugin gives the thread that loads it a stack for signals, and frees it with the last core and model, maybe
    in another thread: the next signal, such as Ctrl-C, would then end the process with a segmentation fault.
    """
    return ov.Core()


def build_model(weights: BackboneWeights, spec: ExtractSpec, rows: int) -> ov.Model:
    """The graph from uint8 (rows, size, size, 3) to every feature of the spec, in column order."""
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    images = ops.parameter([rows, spec.size, spec.size, 3], ov.Type.u8, name="images")
    x = ops.subtract(ops.convert(images, "f32"), np.array(preprocessing.mean, np.float32))
    x = ops.transpose(ops.divide(x, np.array(preprocessing.std, np.float32)), np.array([0, 3, 1, 2]))
    operators = _Operators(weights, spec)
    outputs = run_blocks(spec.blocks, x, operators)
    results = [_result(name, pooled) for name, pooled in pool_blocks(outputs, spec.features, operators).items()]
    return ov.Model(results, [images], "vgg16")


def largest_inputs(
    weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The largest absolute input of each convolution over some images, and their features, at a spec of fp32."""
    rows = min(FEW, len(images))
    model = build_model(weights, spec, rows)
    inputs = [node.input_value(0) for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    largest = [ops.result(ops.reduce_max(ops.abs(x), np.arange(4))) for x in inputs]
    watched = ov.Model([*model.get_results(), *largest], model.get_parameters(), "watched")
    compiled = _core().compile_model(watched, "CPU", _options(spec.precision))
    found = []
    for start in range(0, len(images), rows):
        # Where a batch is not filled, some images once more: in any other, inputs might be larger.
        batch = images[np.arange(start, start + rows) % len(images)]
        found.append([values.copy() for values in compiled(batch).values()])
    columns = list(zip(*found, strict=True))
    features = {name: np.concatenate(parts)[: len(images)] for name, parts in zip(spec.widths, columns, strict=False)}
    return [float(np.max(parts)) for parts in columns[len(features) :]], features


def _quantize(x: ov.Output, kernel: np.ndarray, ends: tuple[float, float]) -> tuple[ov.Node, ov.Node]:
    """A convolution's inputs and weights in steps; between two such nodes OpenVINO computes in 8 bits."""
    low, high = (np.float32(end) for end in ends)
    bounds = kernel_bounds(kernel)
    return (
        ops.fake_quantize(x, low, high, low, high, INPUT_LEVELS),
        ops.fake_quantize(ops.constant(kernel), -bounds, bounds, -bounds, bounds, KERNEL_LEVELS),
    )


class _Operators:
    """Layers and poolings as nodes; see `featx.backbones.LayerOperators` and `featx.backbones.PoolingOperators`."""

    def __init__(self, weights: BackboneWeights, spec: ExtractSpec) -> None:
        self._tensors = weights.tensors
        self._bounds = iter(spec.calibration) if spec.precision == "int8" else None

    def convolution(self, x: ov.Output, layer: Convolution) -> ov.Output:
        kernel, bias = layer.parameters(self._tensors)
        if self._bounds:
            x, kernel = _quantize(x, kernel, input_range(next(self._bounds), signed=layer.number == 0))
        else:
            kernel = ops.constant(kernel)  # because ops.convolution copies an array to a list first
        x = ops.convolution(x, kernel, [1, 1], [1, 1], [1, 1], [1, 1])
        return ops.relu(ops.add(x, bias.reshape(1, -1, 1, 1)))

    def max_pool(self, x: ov.Output, layer: MaxPool) -> ov.Output:
        return ops.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2]).output(0)

    def mean(self, x: ov.Output) -> ov.Node:
        return ops.reduce_mean(x, POSITIONS)

    def max(self, x: ov.Output) -> ov.Node:
        return ops.reduce_max(x, POSITIONS)

    def power_mean(self, x: ov.Output, power: float, floor: float) -> ov.Node:
        # Relative to the largest value, because the powers would overflow in float16.
        x = ops.maximum(x, np.float32(floor))
        powers = ops.power(ops.divide(x, ops.reduce_max(x, POSITIONS, keep_dims=True)), np.float32(power))
        mean = ops.power(ops.reduce_mean(powers, POSITIONS), np.float32(1 / power))
        return ops.multiply(mean, ops.reduce_max(x, POSITIONS))

    def flatten(self, x: ov.Output) -> ov.Node:
        return ops.reshape(x, np.array([0, -1]), special_zero=True)


def _result(name: str, pooled: ov.Node) -> ov.Node:
    result = ops.result(pooled)
    result.set_friendly_name(name)
    return result
