"""Compute features with ncnn, on the CPU, with convolutions by Winograd's algorithm.

For 4 × 4 outputs of a 3 × 3 convolution, the algorithm needs 36 products instead of 144 (Lavin & Gray 2016, "Fast
algorithms for convolutional neural networks"). Its rounding errors are about as large as those of direct sums.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import ncnn
import numpy as np
from joblib import cpu_count

from featx.backbones import PREPROCESSINGS, BackboneWeights, pool_blocks
from featx.engines.batching import BatchedEngine
from featx.engines.ncnn_network import INPUT, NcnnNetwork
from featx.errors import EngineError
from featx.spec import ExtractSpec

IMAGES_PER_THREAD = 8
NO_MEMORY = -100
"""The code that ncnn returns if it cannot allocate memory."""


class NcnnEngine(BatchedEngine):
    """Compute features with ncnn, on the CPU and in float32. Each thread computes one image at a time.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's tensors.
    spec : ExtractSpec
        The features to compute, and the image size. The precision must be fp32.
    batch_size : int, optional
        Number of images per forward pass. The default is 8 per thread.
    threads : int, optional
        Number of threads to compute with. The default is one per core.

    Raises
    ------
    EngineError
        If the precision is not fp32, or ncnn cannot load the backbone.
    MemoryError
        If the weights do not fit in memory.
    """

    def __init__(
        self, weights: BackboneWeights, spec: ExtractSpec, batch_size: int | None = None, threads: int | None = None
    ) -> None:
        if spec.precision != "fp32":
            raise EngineError(
                f"--precision of the ncnn engine must be fp32, got {spec.precision}; give --engine openvino"
            )
        self._threads = threads or cpu_count()
        super().__init__(spec, batch_size or IMAGES_PER_THREAD * self._threads)
        self._net = _load_network(weights, spec)
        preprocessing = PREPROCESSINGS[spec.preprocessing]
        # For images of shape (3, height, width). Broadcasting three values over the last axis is ten times slower.
        self._mean, self._std = (
            np.array(part, np.float32)[:, None, None] for part in (preprocessing.mean, preprocessing.std)
        )

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        # It is faster to give each thread its own image than to let all threads work on the same image.
        with ThreadPoolExecutor(min(self._threads, len(images))) as executor:
            columns = np.stack(list(executor.map(self._features, images)))
        return {name: columns[:, part] for name, part in self.spec.slices.items()}

    def _features(self, image: np.ndarray) -> np.ndarray:
        """Compute all features of one image as one array, float32 (width,)."""
        pixels = image.transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= self._mean
        pixels /= self._std
        extractor = self._net.create_extractor()
        # A clone aligns the channels in memory as ncnn needs it. Without it, ncnn crops images of odd size wrongly.
        extractor.input(INPUT, ncnn.Mat(pixels).clone())
        outputs = dict[int, np.ndarray]()
        for number in self.spec.blocks:
            status, output = extractor.extract(f"block{number}")
            _check(status)
            outputs[number] = np.array(output)
        return np.concatenate(list(pool_blocks(outputs, self.spec.features, _NumpyPooling()).values()))


class _NumpyPooling:
    """Pooling operators on arrays (channels, height, width); see `featx.backbones.PoolingOperators`."""

    def mean(self, x: np.ndarray) -> np.ndarray:
        mean: np.ndarray = x.mean((1, 2))
        return mean

    def max(self, x: np.ndarray) -> np.ndarray:
        largest: np.ndarray = x.max((1, 2))
        return largest

    def power_mean(self, x: np.ndarray, power: float, floor: float) -> np.ndarray:
        return self.mean(np.maximum(x, np.float32(floor)) ** power) ** np.float32(1 / power)

    def flatten(self, x: np.ndarray) -> np.ndarray:
        return x.ravel()

    def matrix(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1)

    def constant(self, values: np.ndarray) -> np.ndarray:
        return values

    def matmul(self, a: np.ndarray, b: np.ndarray, *, transpose: bool = False) -> np.ndarray:
        product: np.ndarray = a @ (b.T if transpose else b)
        return product

    def add(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result: np.ndarray = a + b
        return result

    def multiply(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result: np.ndarray = a * b
        return result

    def divide(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        result: np.ndarray = a / b
        return result

    def square_root(self, x: np.ndarray) -> np.ndarray:
        root: np.ndarray = np.sqrt(x)
        return root

    def row_means(self, x: np.ndarray) -> np.ndarray:
        means: np.ndarray = x.mean(-1, keepdims=True)
        return means

    def entries(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        taken: np.ndarray = x.ravel()[indices]
        return taken


def _load_network(weights: BackboneWeights, spec: ExtractSpec) -> ncnn.Net:
    net = ncnn.Net()
    # On some processors ncnn's default is half precision.
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, option, False)
    net.opt.num_threads = 1
    network = NcnnNetwork(weights, spec)
    _check(net.load_param_mem(network.text))
    _check(net.load_model(_BytesReader(network.tensors)))
    return net


class _BytesReader(ncnn.DataReader):  # type: ignore[misc]
    """Lets ncnn copy from bytes. ncnn might keep a reference to a plain buffer, and the bytes would stay in memory."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data, self._position = data, 0

    def read(self, place: object, size: int) -> int:
        """Copy at most ``size`` of the next bytes to the address in the capsule ``place``; return how many."""
        chunk = self._data[self._position : self._position + size]
        ctypes.memmove(_pointer(place, None), chunk, len(chunk))
        self._position += len(chunk)
        return len(chunk)


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _check(status: int) -> None:
    if status == NO_MEMORY:
        raise MemoryError
    if status:
        raise EngineError(f"ncnn could not run the backbone: it returned {status}; use --engine openvino or torch")
