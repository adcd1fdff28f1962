"""The ncnn engine: the same backbone, taps and pools, on a CPU, with convolutions by Winograd's algorithm.

A tile of 4 × 4 outputs of a 3 × 3 convolution takes 36 products instead of 144 (Lavin & Gray 2016, "Fast algorithms
for convolutional neural networks"), in float32 with about as much rounding as the sums that it replaces.
"""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import ncnn
import numpy as np
from joblib import cpu_count

from featx.backbones import PREPROCESSINGS, BackboneWeights, pool_blocks
from featx.engines.batching import BatchedEngine
from featx.engines.ncnn_network import INPUT, Network
from featx.errors import EngineError
from featx.spec import ExtractSpec

IMAGES_A_THREAD = 8
NO_MEMORY = -100
"""What ncnn returns where it could not allocate."""


class NcnnEngine(BatchedEngine):
    """Turns batches of images into features with ncnn, on the CPU, in float32: an image a thread.

    Parameters
    ----------
    weights : BackboneWeights
        The backbone's 26 tensors.
    spec : ExtractSpec
        What to tap and pool, at which size.
    batch_size : int or None
        Images a pass; None is 8 for each thread.
    threads : int or None
        What it computes in; None takes all cores.

    Raises
    ------
    EngineError
        If the precision is not fp32.
    MemoryError
        If the weights do not fit in memory.
    """

    def __init__(
        self, weights: BackboneWeights, spec: ExtractSpec, batch_size: int | None = None, threads: int | None = None
    ) -> None:
        if spec.precision != "fp32":
            raise EngineError(f"the ncnn engine computes in fp32 alone, got {spec.precision}; give --engine openvino")
        self._threads = threads or cpu_count()  # of those that this process may use
        super().__init__(spec, batch_size or IMAGES_A_THREAD * self._threads)
        self._net = _build(weights, spec)
        preprocessing = PREPROCESSINGS[spec.preprocessing]
        # By channel: numpy takes ten times as long to spread three values over the last axis.
        self._mean, self._std = (
            np.array(part, np.float32)[:, None, None] for part in (preprocessing.mean, preprocessing.std)
        )

    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        # Two images in a thread each take less time than one after the other in two threads.
        with ThreadPoolExecutor(min(self._threads, len(images))) as pool:
            columns = np.stack(list(pool.map(self._features, images)))
        return {name: columns[:, part] for name, part in self.spec.slices.items()}

    def _features(self, image: np.ndarray) -> np.ndarray:
        """All features of one image side by side, float32."""
        pixels = image.transpose(2, 0, 1).astype(np.float32, order="C")
        pixels -= self._mean
        pixels /= self._std
        extractor = self._net.create_extractor()
        # A copy, whose channels begin where ncnn's own do; of an odd size, those of numpy do not, and it crops amiss.
        extractor.input(INPUT, ncnn.Mat(pixels).clone())
        outputs = dict[int, np.ndarray]()
        for number in self.spec.blocks:
            status, output = extractor.extract(f"block{number}")
            _check(status)
            outputs[number] = np.array(output)
        return np.concatenate(list(pool_blocks(outputs, self.spec.features, _Pooling()).values()))


def _build(weights: BackboneWeights, spec: ExtractSpec) -> ncnn.Net:
    net = ncnn.Net()
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):  # which it would take unasked, on some processors
            setattr(net.opt, option, False)
    net.opt.num_threads = 1
    network = Network(weights, spec)
    _check(net.load_param_mem(network.text))
    _check(net.load_model(_Reader(network.tensors)))
    return net


class _Reader(ncnn.DataReader):  # type: ignore[misc]
    """Copies bytes to where ncnn asks for them; given the bytes themselves it might refer to them for ever."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data, self._read = data, 0

    def read(self, place: object, size: int) -> int:
        """Copy the next ``size`` bytes, or what is left of them, to a pointer in a capsule, and say how many."""
        chunk = self._data[self._read : self._read + size]
        ctypes.memmove(_pointer(place, None), chunk, len(chunk))
        self._read += len(chunk)
        return len(chunk)


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def _check(status: int) -> None:
    if status:
        raise MemoryError if status == NO_MEMORY else EngineError(f"ncnn could not run the backbone: {status}")


class _Pooling:
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
