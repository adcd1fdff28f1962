"""A Ray cluster: reaching it, and what each worker on it has."""

import math
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from featx.errors import EngineError
from featx.runtime import SIGNALS, import_optional


@dataclass(frozen=True)
class Size:
    """How many workers there are, and what each has."""

    workers: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how large its workers are to be; None is left to what there is."""

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None

    @contextmanager
    def connected(self, wanted_by: str = "--executor ray") -> Iterator[Any]:
        """The module ``ray``, connected: to the address, else to that of ``RAY_ADDRESS``, else to a cluster of this
        machine that ends with the context. One that this process is connected to already is taken, and stays.

        Raises
        ------
        EngineError
            If Ray is not installed, the cluster cannot be reached, or no worker has room on this machine.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = import_optional("ray", "ray", wanted_by)
        if ray.is_initialized():
            yield ray
            return
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            ray.init(address=self.address, include_dashboard=None if self.address else False,
                     log_to_driver=False, logging_level="WARNING")  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            option = "--ray-address" if self.address else "RAY_ADDRESS"
            where = self.address or os.environ.get("RAY_ADDRESS") or "a new cluster on this machine"
            raise EngineError(f"{option} must be a Ray cluster that runs, got {where}: {error}") from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            yield ray
        finally:
            ray.shutdown()

    def size(self, nodes: Sequence[dict[str, float]]) -> Size:
        """The workers, given the resources of each node.

        Raises
        ------
        EngineError
            If no node has room for a worker.
        """
        most = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        gpus = self.gpus_per_worker if self.gpus_per_worker is not None else min(most, 1.0)
        hosts = _hosts(nodes, gpus)
        room = sum(int(node["GPU"] / gpus) for node in hosts) if gpus else len(hosts)
        workers = self.workers or max(1, room)
        cores = [int(node.get("CPU", 0)) for node in hosts]
        cpus = self.cpus_per_worker or max(1, min(cores, default=1) // math.ceil(workers / max(1, len(hosts))))
        if cpus > max(cores, default=0):
            largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            raise EngineError(
                f"each Ray worker must have a node with {cpus} CPUs and {gpus:g} GPUs, and the largest of {len(nodes)} "
                f"has {largest} and {most:g}: give other --cpus-per-worker and --gpus-per-worker"
            )
        return Size(workers, cpus, gpus)


def _hosts(nodes: Sequence[dict[str, float]], gpus: float) -> list[dict[str, float]]:
    """The nodes that are to have workers, each of which has as many cores as on the smallest of them.

    Those without a core or the GPUs cannot; a small one without GPUs, such as the head's of a cluster, would make the
    workers of all others as small.
    """
    most = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    least = 1 if gpus else max(1, most / 2)
    return [node for node in nodes if node.get("CPU", 0.0) >= least and node.get("GPU", 0.0) >= gpus]
