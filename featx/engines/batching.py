"""The base class of all engines: it halves batches when memory runs out, and checks that features are finite."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from threading import Lock

import numpy as np

from featx.errors import EngineError
from featx.spec import ExtractSpec


class BatchedEngine(ABC):
    """Compute features of any number of images, ``batch_size`` at a time.

    Several threads may share an engine. They take turns, because one call already uses all cores, and the engine has
    memory for only one batch.

    Attributes
    ----------
    spec : ExtractSpec
        The features to compute, and the image size and precision.
    batch_size : int
        Number of images per forward pass. It is halved when memory runs out.
    on_gpu : bool
        Whether the backbone runs on a GPU.
    """

    on_gpu: bool = False

    def __init__(self, spec: ExtractSpec, batch_size: int) -> None:
        self.spec, self.batch_size = spec, batch_size
        self._turn = Lock()

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the features of images.

        Parameters
        ----------
        images : uint8 array (n, size, size, 3)
            Preprocessed RGB images, at least one.

        Returns
        -------
        dict of str to float32 array (n, width)
            The features by name, in column order.

        Raises
        ------
        EngineError
            If not even one image fits in memory, or if a feature is not finite.
        """
        with self._turn:
            batches = list(self._batches(images))
        features = {name: np.concatenate([batch[name] for batch in batches]) for name in self.spec.widths}
        for name, values in features.items():
            if not np.isfinite(values).all():
                raise EngineError(
                    f"{name} is not finite at precision {self.spec.precision}: the backbone's values overflow; "
                    "use --precision bf16 or fp32"
                )
        return features

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.spec.widths)}; {self.spec.precision}, batch {self.batch_size})"

    @abstractmethod
    def _forward(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the features of one batch."""

    def _out_of_memory(self, error: Exception) -> bool:
        """Return whether an error of `_forward` means that memory ran out."""
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
        """Halve the batch size if memory ran out. Otherwise raise the error."""
        if not self._out_of_memory(error):
            raise error
        if self.batch_size == 1:
            raise EngineError(
                f"one image of {self.spec.size} × {self.spec.size} pixels does not fit in memory; "
                "use a smaller --size, fewer --blocks or another --device"
            ) from error
        self.batch_size //= 2
