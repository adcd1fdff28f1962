"""Train in several processes, one per device, by PyTorch's DistributedDataParallel. ``torchrun`` starts them.

Every process holds the same weights and trains on its share of each batch. Only the main process writes files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed, nn

TIMEOUT = timedelta(days=30)
"""How long processes wait for the main process, which alone computes the activations of the frozen layers."""


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Connect the processes that ``torchrun`` started; do nothing in a process that was started otherwise."""
    if not _launched():
        yield
        return
    device = local_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _launched() -> bool:
    """Tell whether ``torchrun`` started this process. torch's own test is missing in builds without distributed."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _connected() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def local_device(device: torch.device) -> torch.device:
    """Replace ``cuda`` by the CUDA device that ``torchrun`` assigned to this process."""
    if str(device) == "cuda" and _launched():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def is_main_process() -> bool:
    """Tell whether this process writes files and messages: it is the only one, or the first one of ``torchrun``."""
    return not _launched() or os.environ["RANK"] == "0"


def wait_for_all() -> None:
    """Wait until all processes have called this. Then all can read what the main process has written."""
    if _connected():
        distributed.barrier()


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model to average its gradients over all processes. With one process, return it unchanged."""
    if not _connected():
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def local_rows(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Select the rows of a batch that this process trains on.

    Returns
    -------
    rows : int array
        Row numbers. Every process needs at least one row. If the batch has fewer rows than there are processes, some
        processes get the first row of the batch with weight 0.
    weight : float
        Factor on the mean loss of these rows. It makes the average over processes equal to the mean loss of the batch.
    """
    if not _connected():
        return rows, 1.0
    count = distributed.get_world_size()
    own = rows[distributed.get_rank() :: count]
    return (own, count * len(own) / len(rows)) if len(own) else (rows[:1], 0.0)


def sum_over_processes(*numbers: float) -> list[float]:
    """Sum each number over all processes."""
    if not _connected():
        return list(numbers)
    sums: Tensor = torch.tensor(numbers, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        sums = sums.cuda()
    distributed.all_reduce(sums)
    return [float(value) for value in sums]


def broadcast_from_main(*numbers: float) -> list[float]:
    """Return, in every process, the numbers that the main process passes."""
    return sum_over_processes(*(numbers if is_main_process() else (0.0 for _ in numbers)))
