"""What every engine does alike: batches that halve when memory runs out, and values that must be finite."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from threading import Lock

import numpy as np

from featx.errors import EngineError
from featx.spec import ExtractSpec


class BatchedEngine(ABC):
    """Turns any number of images into features, ``batch_size`` at a time; threads that share it take turns.

    Attributes
    ----------
    spec : ExtractSpec
        What is tapped and pooled, at which size and precision.
    batch_size : int
        Images a pass; it halves itself when memory runs out.
    on_gpu : bool
        Whether the backbone runs beside the processor rather than on it.
    """

    on_gpu: bool = False

    def __init__(self, spec: ExtractSpec, batch_size: int) -> None:
        self.spec, self.batch_size = spec, batch_size
        # One image after the other takes all cores; and what a pass computes in is there once, not for each thread.
        self._turn = Lock()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images.

        Parameters
        ----------
        images : uint8 array (n, size, size, 3)
            RGB, n at least 1.

        Returns
        -------
        dict of str to float32 array (n, width)
            By name, in column order.

        Raises
        ------
        EngineError
            If not even one image fits in memory, or a feature is not finite.
        """
        with self._turn:
            batches = list(self._batches(images))
        features = {name: np.concatenate([batch[name] for batch in batches]) for name in self.spec.widths}
        for name, values in features.items():
            if not np.isfinite(values).all():
                raise EngineError(
                    f"{name} is not finite at precision {self.spec.precision}: the backbone's values leave its range; "
                    "use --precision bf16 or fp32"
                )
        return features

    @abstractmethod
    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of one batch."""

    def _out_of_memory(self, error: Exception) -> bool:
        """Whether an error of `_forward` says that memory ran out."""
        return isinstance(error, MemoryError)

    def _batches(self, images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        start = 0
        while start < len(images):
            batch = images[start : start + self.batch_size]
            try:
                yield self._forward(batch)
            except (MemoryError, RuntimeError) as error:
                self._halve(error)
            else:
                start += len(batch)

    def _halve(self, error: Exception) -> None:
        if not self._out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise EngineError(
                f"one image of {self.spec.size} pixels does not fit in memory; "
                "use a smaller --size, fewer --blocks or another --device"
            ) from error
        self.batch_size //= 2
