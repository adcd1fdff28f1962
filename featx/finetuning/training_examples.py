"""The rows that a stage trains on, their batches with one random copy of each image, and mixup."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class TrainingExamples:
    """Model inputs and class numbers of images and their augmented copies, one row per copy.

    Parameters
    ----------
    inputs : tuple of arrays (rows, …)
        One array per input of the model. It may be any object that an array of row numbers can index.
    labels : int array (rows,)
        Class numbers.
    image_ids : int array (rows,)
        The image that each row is a copy of. An epoch takes one random copy of each image.
    """

    inputs: tuple[np.ndarray, ...]
    labels: np.ndarray
    image_ids: np.ndarray

    def batch(self, rows: np.ndarray) -> tuple[list[Tensor], Tensor]:
        """Return the inputs and the labels of some rows as tensors."""
        tensors = [torch.from_numpy(np.ascontiguousarray(values[rows])) for values in self.inputs]
        return tensors, torch.from_numpy(self.labels[rows])

    def iterate_batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the row numbers of each batch. Images are in random order, with one random copy of each image."""
        order = rng.permutation(len(self.image_ids))
        _, first = np.unique(self.image_ids[order], return_index=True)
        rows = rng.permutation(order[first])
        for start in range(0, len(rows), batch_size):
            yield np.sort(rows[start : start + batch_size])


def mix_up(inputs: list[Tensor], alpha: float, rng: np.random.Generator) -> tuple[list[Tensor], Tensor, float]:
    """Mix each row with a random partner (mixup, Zhang et al. 2018).

    torchvision's ``MixUp`` takes only images. The inputs of this function are activations and pooled features, which
    must be mixed with the same partners and the same share.

    Parameters
    ----------
    inputs : list of tensors (rows, …)
    alpha : float
        Parameter of the Beta distribution that the share is drawn from; 0 for no mixup.
    rng : numpy Generator

    Returns
    -------
    mixed : list of tensors (rows, …)
    partners : int tensor (rows,)
        The partner of each row.
    share : float
        Weight of the row itself. The weight of the partner is ``1 - share``.
    """
    partners = torch.from_numpy(rng.permutation(len(inputs[0])))
    if not alpha:
        return inputs, partners, 1.0
    share = float(rng.beta(alpha, alpha))
    return [share * x.float() + (1 - share) * x[partners].float() for x in inputs], partners, share
