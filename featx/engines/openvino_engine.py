"""Compute features with OpenVINO, on the CPU."""

from collections.abc import Collection, Mapping
from functools import cache

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from joblib import cpu_count

from featx.backbones import (
    PREPROCESSINGS,
    BackboneWeights,
    Convolution,
    MaxPool,
    feature_name,
    get_pooling,
    pool_blocks,
    run_blocks,
)
from featx.engines.batching import BatchedEngine
from featx.engines.int8 import INPUT_LEVELS, KERNEL_LEVELS, input_range, kernel_bounds
from featx.spec import ExtractSpec

FLOAT_TYPES = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""OpenVINO's float type for each precision. At int8, this is the type of the poolings."""
SMALL_BATCH = 4
"""If there are at most this many images, they are computed in a small batch instead of a full one. Examples are the
reference images, or a single image to predict."""
PIXELS_PER_CORE, MAX_BATCH = 2 * 224**2, 16
"""These limits decide the default batch size. Larger batches are no faster (measured, see docs/benchmarks), and they
take more memory and more time to start."""
POSITIONS = np.array([2, 3])
"""The axes of height and width."""


class OpenVINOEngine(BatchedEngine):
    """Compute features with OpenVINO, on the CPU.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to compute, and the image size and precision.
    batch_size : int, optional
        Number of images per forward pass. The default is between 4 and 16: about 2 per core at 224 pixels, and more if
        images are smaller.
    threads : int, optional
        Number of threads to compute with. The default is one per core.
    """

    def __init__(
        self, weights: BackboneWeights, spec: ExtractSpec, batch_size: int | None = None, threads: int | None = None
    ) -> None:
        default = PIXELS_PER_CORE * (threads or cpu_count()) // spec.size**2
        super().__init__(spec, batch_size or min(MAX_BATCH, max(SMALL_BATCH, default)))
        self._threads = {"INFERENCE_NUM_THREADS": threads} if threads else {}
        self._weights = weights
        self._compiled: dict[int, ov.CompiledModel] = {}
        # In a model of half precision, OpenVINO would multiply matrices in half precision too.
        half = _float_type(spec.precision) != "f32"
        self._apart = [pair for pair in spec.features if half and get_pooling(pair[1]).projected]
        self._compiled_poolings: dict[int, ov.CompiledModel] = {}

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        # A compiled model has a fixed shape and takes 150 MB. So there are only two, and batches are filled with zeros.
        rows = min(SMALL_BATCH, self.batch_size) if len(images) <= SMALL_BATCH else self.batch_size
        filler = np.zeros((rows - len(images), *images.shape[1:]), np.uint8)
        outputs = self._model(rows)(np.concatenate([images, filler]) if len(filler) else images).values()
        features = dict(zip(self.spec.widths, outputs, strict=True))
        if self._apart:
            features |= self._pool_apart({block: features[feature_name(block, pool)] for block, pool in self._apart})
        return {name: values[: len(images)].copy() for name, values in features.items()}

    def _model(self, rows: int) -> ov.CompiledModel:
        if rows not in self._compiled:
            options = {**_options(self.spec.precision), **self._threads}
            model = build_model(self._weights, self.spec, rows, self._apart)
            self._compiled[rows] = _core().compile_model(model, "CPU", options)
        return self._compiled[rows]

    def _pool_apart(self, maps: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Pool the outputs of blocks in float32, by a model of its own."""
        rows = len(next(iter(maps.values())))
        if rows not in self._compiled_poolings:
            inputs = {block: ops.parameter(values.shape, ov.Type.f32) for block, values in maps.items()}
            pooled = pool_blocks(inputs, self._apart, _OpenVINOOperators(self._weights, self.spec))
            model = ov.Model([ops.result(node) for node in pooled.values()], list(inputs.values()), "poolings")
            self._compiled_poolings[rows] = _core().compile_model(model, "CPU", {**_options("fp32"), **self._threads})
        outputs = self._compiled_poolings[rows](list(maps.values())).values()
        return {feature_name(*pair): values for pair, values in zip(self._apart, outputs, strict=True)}

    def _out_of_memory(self, error: Exception) -> bool:
        return super()._out_of_memory(error) or "bad_alloc" in str(error) or "allocate" in str(error)

    def _halve(self, error: Exception) -> None:
        super()._halve(error)
        self._compiled_poolings.clear()
        self._compiled.clear()  # frees the memory of the larger model


def _options(precision: str) -> dict[str, object]:
    return {
        "INFERENCE_PRECISION_HINT": _float_type(precision),
        "PERFORMANCE_HINT": "LATENCY",
        # With pinning, every process binds its threads to the same first cores, so two workers would share cores.
        "ENABLE_CPU_PINNING": False,
    }


def _float_type(precision: str) -> str:
    """Return OpenVINO's float type for a precision.

    For fp16 on a processor without float16, the type is float32. With float16, OpenVINO would compute in bfloat16 on
    such a processor, which is less exact.
    """
    name = FLOAT_TYPES[precision]
    return name if name != "f16" or "FP16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


@cache
def _core() -> ov.Core:
    """Return the one OpenVINO core of this process, which is never freed.

    OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers. The plugin frees this stack when
    the last core and model are freed, maybe in another thread. The next signal, such as Ctrl-C, would then crash the
    process.
    """
    return ov.Core()


def build_model(
    weights: BackboneWeights, spec: ExtractSpec, rows: int, apart: Collection[tuple[int, str]] = ()
) -> ov.Model:
    """Build the graph that computes a spec's features, in column order, from uint8 images (rows, size, size, 3).

    Instead of each feature in ``apart``, which are (block, pooling) pairs, it returns the output of the block.
    """
    preprocessing = PREPROCESSINGS[spec.preprocessing]
    images = ops.parameter([rows, spec.size, spec.size, 3], ov.Type.u8, name="images")
    x = ops.subtract(ops.convert(images, "f32"), np.array(preprocessing.mean, np.float32))
    x = ops.transpose(ops.divide(x, np.array(preprocessing.std, np.float32)), np.array([0, 3, 1, 2]))
    operators = _OpenVINOOperators(weights, spec)
    outputs = run_blocks(spec.blocks, x, operators)
    pooled = pool_blocks(outputs, [pair for pair in spec.features if pair not in apart], operators)
    names = {feature_name(block, pool): block for block, pool in spec.features}
    results = [_result(name, pooled.get(name, outputs[block])) for name, block in names.items()]
    return ov.Model(results, [images], "vgg16")


def _result(name: str, pooled: ov.Node) -> ov.Node:
    result = ops.result(pooled)
    result.set_friendly_name(name)
    return result


class _OpenVINOOperators:
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
        # Values are first divided by the largest one, because their powers would overflow in float16.
        x = ops.maximum(x, np.float32(floor))
        powers = ops.power(ops.divide(x, ops.reduce_max(x, POSITIONS, keep_dims=True)), np.float32(power))
        mean = ops.power(ops.reduce_mean(powers, POSITIONS), np.float32(1 / power))
        return ops.multiply(mean, ops.reduce_max(x, POSITIONS))

    def flatten(self, x: ov.Output) -> ov.Node:
        return ops.reshape(x, np.array([0, -1]), special_zero=True)

    def matrix(self, x: ov.Output) -> ov.Node:
        return ops.reshape(x, np.array([0, 0, -1]), special_zero=True)

    def constant(self, values: np.ndarray) -> ov.Node:
        return ops.constant(values)

    def matmul(self, a: ov.Output, b: ov.Output, *, transpose: bool = False) -> ov.Node:
        return ops.matmul(a, b, False, transpose)

    def add(self, a: ov.Output, b: ov.Output) -> ov.Node:
        return ops.add(a, b)

    def multiply(self, a: ov.Output, b: ov.Output) -> ov.Node:
        return ops.multiply(a, b)

    def divide(self, a: ov.Output, b: ov.Output) -> ov.Node:
        return ops.divide(a, b)

    def square_root(self, x: ov.Output) -> ov.Node:
        return ops.sqrt(x)

    def row_means(self, x: ov.Output) -> ov.Node:
        return ops.reduce_mean(x, np.array([-1]), keep_dims=True)

    def entries(self, x: ov.Output, indices: np.ndarray) -> ov.Node:
        flat = ops.reshape(x, np.array([0, -1]), special_zero=True)
        return ops.gather(flat, indices, np.array(1))


def _quantize(x: ov.Output, kernel: np.ndarray, ends: tuple[float, float]) -> tuple[ov.Node, ov.Node]:
    """Round a convolution's inputs and weights to int8 levels, so that OpenVINO computes the convolution in 8 bits."""
    low, high = (np.float32(end) for end in ends)
    bounds = kernel_bounds(kernel)
    return (
        ops.fake_quantize(x, low, high, low, high, INPUT_LEVELS),
        ops.fake_quantize(ops.constant(kernel), -bounds, bounds, -bounds, bounds, KERNEL_LEVELS),
    )


def largest_inputs(
    weights: BackboneWeights, spec: ExtractSpec, images: np.ndarray
) -> tuple[list[float], dict[str, np.ndarray]]:
    """Measure the largest absolute input of each convolution over some images.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The spec, which has precision fp32.
    images : uint8 array (n, size, size, 3)
        Preprocessed RGB images.

    Returns
    -------
    largest : list of float
        One value per convolution, in order.
    features : dict of str to float32 array (n, width)
        The features of the images by name.
    """
    rows = min(SMALL_BATCH, len(images))
    model = build_model(weights, spec, rows)
    inputs = [node.input_value(0) for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    largest = [ops.result(ops.reduce_max(ops.abs(x), np.arange(4))) for x in inputs]
    watched = ov.Model([*model.get_results(), *largest], model.get_parameters(), "watched")
    compiled = _core().compile_model(watched, "CPU", _options(spec.precision))
    found = []
    for start in range(0, len(images), rows):
        # Fill the last batch with images of the sample. Zeros might give larger inputs to a convolution.
        batch = images[np.arange(start, start + rows) % len(images)]
        found.append([values.copy() for values in compiled(batch).values()])
    columns = list(zip(*found, strict=True))
    features = {name: np.concatenate(parts)[: len(images)] for name, parts in zip(spec.widths, columns, strict=False)}
    return [float(np.max(parts)) for parts in columns[len(features) :]], features
