"""The driver of Ray workers: deals out groups, two to a hand, and deals again what a lost worker had in hand."""

import os
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pickle import PicklingError
from typing import Any

import numpy as np

from featx.engines import Timings
from featx.errors import EngineError
from featx.extraction.local_executor import Enter, ExtractJob
from featx.extraction.part_groups import Group
from featx.extraction.ray_actor import EngineConfig, ProcessEnvironment, RayActor
from featx.extraction.ray_cluster import Cluster
from featx.spec import ExtractSpec

IN_HAND = 2
"""Groups that a worker has: one is decoded while the other computes."""
LOSSES = 4
"""Workers that may be lost over the same group, or in a row before they begin, until that is no accident."""
BEGINNING = -1


class _AnyWorker:
    """The engine of some worker, for what the driver wants computed."""

    on_gpu = False
    batch_size = 0

    def __init__(self, spec: ExtractSpec, crew: "RayExecutor") -> None:
        self.spec, self._crew = spec, crew

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self._crew.compute(images)


@dataclass(frozen=True)
class _Hand:
    """What a result is awaited of: a worker, and the group that it has in hand, or that it begins."""

    worker: Any
    group: int


class RayExecutor:
    """Carries out groups on the workers of a Ray cluster; they write their parts themselves.

    A lost worker costs what it has in hand: another is started in its place, and the groups are dealt out again. Parts
    are the same whoever writes them, so nothing is lost if one is written twice.

    Raises
    ------
    EngineError
        On entering, as `Cluster.connected` and `Cluster.size`; if the source cannot be sent to other processes.
    """

    def __init__(self, cluster: Cluster, runner: EngineConfig, work: ExtractJob) -> None:
        self._cluster, self._runner, self._work = cluster, runner, work
        self.engine = _AnyWorker(runner.spec, self)
        self._open = ExitStack()
        self._workers: list[Any] = []
        self._hands: dict[Any, _Hand] = {}
        self._lost: Counter[int] = Counter()

    def __enter__(self) -> "RayExecutor":
        with ExitStack() as stack:
            self._ray = stack.enter_context(self._cluster.connected())
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
            self._size = size = self._cluster.size(nodes)
            work = replace(self._work, workers=size.cpus)
            self._given = [
                self._put(replace(self._runner, threads=size.cpus)),
                self._put(work),
                ProcessEnvironment.here(),
            ]
            self._open = stack.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        for worker in self._workers:
            self._ray.kill(worker)
        self._open.close()

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images, by the first worker; it is started, and stays."""
        for _ in range(LOSSES):
            worker = self._workers[0] if self._workers else self._start()
            try:
                features: dict[str, np.ndarray] = self._result(worker.compute.remote(images))
                return features
            except self._ray.exceptions.RayError:
                self._drop(worker)
        raise EngineError(self._hopeless("while they began"))

    def carry_out(
        self,
        groups: Sequence[Group],
        golden: Mapping[str, np.ndarray],
        enter: Enter,
        timings: Timings,
        advance: Callable[[int], object],
    ) -> None:
        """Have the parts of groups made and written; ``enter`` is told of each, in no order.

        Raises
        ------
        SpecMismatch
            If a worker's machine computes other features than ``golden``.
        EngineError
            If workers are lost again and again.
        FeatxError
            What a worker raises, as `featx.extraction.carry_out`.
        """
        timings.workers = timings.cores = self._size.workers * self._size.cpus
        todo = deque(range(len(groups)))
        whose = f"the run of {self._work.store}"
        for number in range(min(self._size.workers, len(groups))):
            self._begin(self._workers[number] if number < len(self._workers) else self._start(), golden, whose)
        while todo or any(hand.group != BEGINNING for hand in self._hands.values()):
            (ready,), _ = self._ray.wait(list(self._hands))
            hand = self._hands.pop(ready)
            try:
                done = self._result(ready)
            except self._ray.exceptions.RayError:
                todo.extendleft(self._lose(hand, groups))
                if todo:
                    self._begin(self._start(), golden, whose)
                continue
            if hand.group == BEGINNING:
                self._lost[BEGINNING] = 0
            else:
                enter(groups[hand.group], done.part)
                timings.add(done.timings, self._size.workers)
                advance(len(groups[hand.group]))
            for _ in range(IN_HAND if hand.group == BEGINNING else 1):
                if todo:
                    self._give(hand.worker, todo.popleft(), groups)

    def _put(self, value: object) -> Any:
        try:
            return self._ray.put(value)
        except (TypeError, PicklingError) as error:
            raise EngineError(
                f"--executor ray must have images that its workers can read, such as a folder's or shards': {error}"
            ) from error

    def _start(self) -> Any:
        # Not restarted by Ray: what it had in hand would wait for the same node, while others have nothing to do.
        actor = self._ray.remote(RayActor).options(
            num_cpus=self._size.cpus, num_gpus=self._size.gpus, max_concurrency=IN_HAND, max_restarts=0
        )
        worker = actor.remote(*self._given)
        self._workers.append(worker)
        return worker

    def _begin(self, worker: Any, golden: Mapping[str, np.ndarray], whose: str) -> None:
        self._hands[worker.agree.remote(golden, whose)] = _Hand(worker, BEGINNING)

    def _give(self, worker: Any, group: int, groups: Sequence[Group]) -> None:
        self._hands[worker.make.remote(groups[group])] = _Hand(worker, group)

    def _result(self, reference: Any) -> Any:
        """What a worker gives; what it raises on purpose is raised as such, and its loss as a ``RayError``."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error

    def _lose(self, hand: _Hand, groups: Sequence[Group]) -> list[int]:
        """Drop a lost worker; the groups that it had in hand, or ``EngineError`` if one cost too many workers."""
        self._drop(hand.worker)
        others = [reference for reference, other in self._hands.items() if other.worker is hand.worker]
        had = [hand.group, *(self._hands.pop(reference).group for reference in others)]
        self._lost.update(had)
        for group in had:
            if self._lost[group] >= LOSSES:
                first = "" if group == BEGINNING else self._work.listing.full_path(
                    self._work.listing.paths[int(groups[group][0])])  # fmt: skip
                raise EngineError(self._hopeless(f"over the images from {first} on" if first else "while they began"))
        return [group for group in had if group != BEGINNING]

    def _drop(self, worker: Any) -> None:
        self._workers.remove(worker)
        self._ray.kill(worker)

    def _hopeless(self, when: str) -> str:
        return (
            f"{LOSSES} Ray workers were lost {when}, which is no accident: see whether memory ran out, in the logs in "
            f"{os.environ.get('RAY_TMPDIR', '/tmp')}/ray on their nodes; what is finished is kept"
        )
