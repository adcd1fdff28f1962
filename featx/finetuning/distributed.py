"""Training in several processes, one a device, that ``torchrun`` starts: torch's DistributedDataParallel.

Every process does the same with the same weights, except that it trains on its share of each batch; files are written
by the first.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import numpy as np
import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(days=30)
"""How long processes wait for the first, which alone computes what the frozen layers give."""


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Within, the processes that ``torchrun`` started know each other; where it started none, nothing happens."""
    if not _launched():
        yield
        return
    device = own_device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _launched() -> bool:
    """Whether ``torchrun`` started this process; torch's own way to ask is not in a torch without processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def own_device(device: torch.device) -> torch.device:
    """The CUDA device of this process, of the number that ``torchrun`` gave it, unless ``device`` names one."""
    if str(device) == "cuda" and _launched():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


def is_first() -> bool:
    """Whether this process writes files and speaks."""
    return not _launched() or os.environ["RANK"] == "0"


def wait() -> None:
    """Wait until all processes are here, and so can read what the first has written."""
    if _joined():
        distributed.barrier()


def spread(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, whose gradients are the mean over all processes; itself where there is one."""
    if not _joined():
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


def own_rows(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """This process's rows of a batch, and what its mean loss counts, so that the mean gradient is that of the batch.

    A batch of fewer rows than processes has none for some, which take its first row and count it for nothing.
    """
    if not _joined():
        return rows, 1.0
    count = distributed.get_world_size()
    own = rows[distributed.get_rank() :: count]
    return (own, count * len(own) / len(rows)) if len(own) else (rows[:1], 0.0)


def total(*numbers: float) -> list[float]:
    """Each number summed over all processes."""
    if not _joined():
        return list(numbers)
    sums: Tensor = torch.tensor(numbers, dtype=torch.float64)
    if distributed.get_backend() == "nccl":
        sums = sums.cuda()
    distributed.all_reduce(sums)
    return [float(value) for value in sums]


def of_first(*numbers: float) -> list[float]:
    """Each number as the first process has it."""
    return total(*numbers) if is_first() else total(*(0.0 for _ in numbers))
