"""Connect to a Ray cluster, and decide the number of its workers and the CPUs and GPUs of each worker."""

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
class WorkerResources:
    """The number of workers, and the number of CPUs and GPUs of each worker."""

    workers: int
    cpus: int
    gpus: float


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and the workers to start on it.

    The fields are those of `featx.Compute`. If a field is None, its value depends on the cluster.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_worker: int | None = None
    gpus_per_worker: float | None = None

    @contextmanager
    def connect(self, feature: str = "--executor ray") -> Iterator[Any]:
        """Connect to the cluster, and return the module ``ray``.

        Without an address, the address in the environment variable ``RAY_ADDRESS`` is used. If that is not set either,
        a cluster is started on this machine, and stopped at the end. If this process is already connected, the existing
        connection is used, and it is not closed.

        Parameters
        ----------
        feature : str
            What needs Ray. The error message begins with it.

        Raises
        ------
        EngineError
            If Ray is not installed, or if the cluster cannot be reached.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = import_optional("ray", "ray", feature)
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
            raise EngineError(f"{option} must be a running Ray cluster, got {where}: {error}") from error
        # Ray installs its own signal handlers. They would end the process before featx can clean up.
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)
        try:
            yield ray
        finally:
            ray.shutdown()

    def plan_workers(self, nodes: Sequence[dict[str, float]]) -> WorkerResources:
        """Decide the number of workers and their CPUs and GPUs.

        Parameters
        ----------
        nodes : sequence of dict
            The resources of each node, such as ``{"CPU": 64.0, "GPU": 8.0}``.

        Raises
        ------
        EngineError
            If no node has enough CPUs and GPUs for one worker.
        """
        most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
        gpus = self.gpus_per_worker if self.gpus_per_worker is not None else min(most_gpus, 1.0)
        hosts = _usable_nodes(nodes, gpus)
        slots = sum(int(node["GPU"] / gpus) for node in hosts) if gpus else len(hosts)
        workers = self.workers or max(1, slots)
        cores = [int(node.get("CPU", 0)) for node in hosts]
        cpus = self.cpus_per_worker or max(1, min(cores, default=1) // math.ceil(workers / max(1, len(hosts))))
        if cpus > max(cores, default=0):
            largest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
            raise EngineError(
                f"each Ray worker must have a node with {cpus} CPUs and {gpus:g} GPUs, but the largest of {len(nodes)} "
                f"nodes has {largest} and {most_gpus:g}: change --cpus-per-worker or --gpus-per-worker"
            )
        return WorkerResources(workers, cpus, gpus)


def _usable_nodes(nodes: Sequence[dict[str, float]], gpus: float) -> list[dict[str, float]]:
    """Select the nodes that get workers.

    All workers get the same number of CPUs, so it depends on the smallest of the selected nodes. If there are no GPUs,
    nodes with less than half the CPUs of the largest node are therefore left out. The head node of a cluster is often
    that small.
    """
    most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
    least_cpus = 1 if gpus else max(1, most_cpus / 2)
    return [node for node in nodes if node.get("CPU", 0.0) >= least_cpus and node.get("GPU", 0.0) >= gpus]
