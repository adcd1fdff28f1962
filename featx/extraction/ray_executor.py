"""Compute parts on the workers of a Ray cluster, and replace workers that are lost."""

import os
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pickle import PicklingError
from typing import Any

import numpy as np

from featx.engines import StageTimings
from featx.errors import EngineError
from featx.extraction.local_executor import EngineConfig, ExtractJob, OnPart, OnProgress
from featx.extraction.ray_actor import ProcessEnvironment, RayActor
from featx.extraction.ray_cluster import Cluster
from featx.extraction.shards import PartRows
from featx.spec import ExtractSpec

TASKS_PER_WORKER = 2
"""Each worker has two tasks: it decodes the images of one part while it computes the features of another part."""
MAX_LOSSES = 4
"""The run ends if this many workers are lost while computing the same part, or one after another while starting."""
STARTING = -1
"""The part number that stands for a task that starts a worker."""


class _ClusterEngine:
    """An engine that computes on the first worker. The driver uses it to compute features of the reference images."""

    on_gpu = False
    batch_size = 0

    def __init__(self, spec: ExtractSpec, executor: "RayExecutor") -> None:
        self.spec, self._executor = spec, executor

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._executor.compute(images)


@dataclass(frozen=True)
class _Task:
    """A call of a worker that is not finished yet. ``part`` is the number of a part, or `STARTING`."""

    worker: Any
    part: int


class RayExecutor:
    """Computes parts on Ray workers, which write the parts to the shared folder themselves.

    If a worker is lost, another worker is started, and the parts that the lost worker was computing are assigned again.
    A part may then be written twice. This does no harm, because every worker writes the same bytes.

    Raises
    ------
    EngineError
        When the ``with`` block is entered: if Ray is not installed, if the cluster cannot be reached, if no node is
        large enough for a worker, or if the source of the images cannot be sent to other processes.
    """

    def __init__(self, cluster: Cluster, config: EngineConfig, job: ExtractJob) -> None:
        self._cluster, self._config, self._job = cluster, config, job
        self.engine = _ClusterEngine(config.spec, self)
        self._connection = ExitStack()
        self._workers: list[Any] = []
        self._tasks: dict[Any, _Task] = {}
        self._losses: Counter[int] = Counter()

    def __enter__(self) -> "RayExecutor":
        with ExitStack() as stack:
            self._ray = stack.enter_context(self._cluster.connect())
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._resources = resources = self._cluster.plan_workers(nodes)
            self._actor_arguments = [
                self._put(replace(self._config, threads=resources.cpus)),
                self._put(replace(self._job, workers=resources.cpus)),
                ProcessEnvironment.current(),
            ]
            self._connection = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        self._connection.close()

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the features of images on the first worker, which is started if needed."""
        for _ in range(MAX_LOSSES):
            worker = self._workers[0] if self._workers else self._start_worker()
            try:
                features: dict[str, np.ndarray] = self._result(worker.compute.remote(images))
                return features
            except self._ray.exceptions.RayError:
                self._drop_worker(worker)
        raise self._too_many_losses("while they started")

    def run(
        self,
        parts: Sequence[PartRows],
        references: Mapping[str, np.ndarray],
        on_part: OnPart,
        timings: StageTimings,
        on_progress: OnProgress,
    ) -> None:
        """Let the workers compute and write parts. ``on_part`` is called for each part, in any order.

        Raises
        ------
        SpecMismatch
            If a worker's machine computes other features of the reference images than ``references``.
        EngineError
            If too many workers are lost.
        FeatxError
            If `featx.extraction.local_executor.write_parts` raises it on a worker.
        """
        timings.workers = timings.cores = self._resources.workers * self._resources.cpus
        waiting = deque(range(len(parts)))
        owner = f"the run of {self._job.store}"
        for number in range(min(self._resources.workers, len(parts))):
            worker = self._workers[number] if number < len(self._workers) else self._start_worker()
            self._check_worker(worker, references, owner)
        while waiting or any(task.part != STARTING for task in self._tasks.values()):
            (ready,), _ = self._ray.wait(list(self._tasks))
            task = self._tasks.pop(ready)
            try:
                done = self._result(ready)
            except self._ray.exceptions.RayError:
                waiting.extendleft(self._handle_loss(task, parts))
                if waiting:
                    self._check_worker(self._start_worker(), references, owner)
                continue
            if task.part == STARTING:
                self._losses[STARTING] = 0
            else:
                on_part(parts[task.part], done.part)
                timings.merge(done.timings, self._resources.workers)
                on_progress(len(parts[task.part]))
            for _ in range(TASKS_PER_WORKER if task.part == STARTING else 1):
                if waiting:
                    self._assign(task.worker, waiting.popleft(), parts)

    def _put(self, value: object) -> Any:
        try:
            return self._ray.put(value)
        except (TypeError, PicklingError) as error:
            raise EngineError(
                f"--executor ray must have images that its workers can read, such as a folder's or shards': {error}"
            ) from error

    def _start_worker(self) -> Any:
        # Ray must not restart a lost worker. Its tasks would wait for the same node while other workers are idle.
        actor = self._ray.remote(RayActor).options(
            num_cpus=self._resources.cpus,
            num_gpus=self._resources.gpus,
            max_concurrency=TASKS_PER_WORKER,
            max_restarts=0,
        )
        worker = actor.remote(*self._actor_arguments)
        self._workers.append(worker)
        return worker

    def _check_worker(self, worker: Any, references: Mapping[str, np.ndarray], owner: str) -> None:
        self._tasks[worker.check.remote(references, owner)] = _Task(worker, STARTING)

    def _assign(self, worker: Any, part: int, parts: Sequence[PartRows]) -> None:
        self._tasks[worker.write_part.remote(parts[part])] = _Task(worker, part)

    def _result(self, reference: Any) -> Any:
        """Wait for a result. An exception of the worker is raised unchanged, and a lost worker raises ``RayError``."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _handle_loss(self, task: _Task, parts: Sequence[PartRows]) -> list[int]:
        """Drop a lost worker and return the parts that it was computing.

        Raises
        ------
        EngineError
            If too many workers were lost while they computed one of these parts.
        """
        self._drop_worker(task.worker)
        others = [reference for reference, other in self._tasks.items() if other.worker is task.worker]
        lost = [task.part, *(self._tasks.pop(reference).part for reference in others)]
        self._losses.update(lost)
        for part in lost:
            if self._losses[part] >= MAX_LOSSES:
                raise self._too_many_losses(self._describe(part, parts))
        return [part for part in lost if part != STARTING]

    def _describe(self, part: int, parts: Sequence[PartRows]) -> str:
        if part == STARTING:
            return "while they started"
        listing = self._job.listing
        return f"while they computed the part that begins with {listing.full_path(listing.paths[int(parts[part][0])])}"

    def _drop_worker(self, worker: Any) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker)

    def _too_many_losses(self, when: str) -> EngineError:
        logs = f"{os.environ.get('RAY_TMPDIR', '/tmp')}/ray"
        return EngineError(
            f"{MAX_LOSSES} Ray workers were lost {when}; look for out-of-memory errors in the logs in {logs} on their "
            "nodes; finished parts are kept, and the same command resumes"
        )
