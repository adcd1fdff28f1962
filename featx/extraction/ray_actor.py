"""A worker of a cluster: it keeps the backbone, and makes the parts that it is given. It knows nothing of Ray."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines import Engine, Timings, check_golden, make_engine
from featx.extraction.local_executor import ExtractJob, carry_out
from featx.extraction.part_groups import Group
from featx.files import limit_variables
from featx.spec import ExtractSpec
from featx.store import Part


@dataclass(frozen=True)
class EngineConfig:
    """What a worker makes its engine of; as `featx.engines.selection.make_engine` takes it."""

    backbone: BackboneWeights
    spec: ExtractSpec
    device: str
    batch_size: int | None
    engine: str
    threads: int | None = None


@dataclass(frozen=True)
class ProcessEnvironment:
    """The folder of a process, which its relative paths start from, and its limits: what no argument says."""

    folder: Path
    limits: dict[str, str]

    @classmethod
    def here(cls) -> "ProcessEnvironment":
        """That of this process."""
        return cls(Path.cwd(), limit_variables())

    def take(self) -> None:
        """Make it that of this process."""
        os.environ.update(self.limits)
        # Where there is no such folder, the paths that need it say so.
        with suppress(OSError):
            os.chdir(self.folder)


@dataclass
class Done:
    """A part that was made and written, without its features, and where the time went."""

    part: Part
    timings: Timings = field(default_factory=Timings)


class _InTurn:
    """An engine that several threads use one after the other; ``waited`` seconds for its turn."""

    def __init__(self, engine: Engine, lock: Lock) -> None:
        self._engine, self._lock, self.waited = engine, lock, 0.0
        self.spec, self.batch_size, self.on_gpu = engine.spec, engine.batch_size, engine.on_gpu

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        with self._lock:
            self.waited += time.perf_counter() - began
            return self._engine(images)


class RayActor:
    """Makes parts, as if it were at the driver's place; two threads may be in it: one decodes, the other computes."""

    def __init__(self, runner: EngineConfig, work: ExtractJob, place: ProcessEnvironment) -> None:
        self._runner, self._work, self._lock = runner, work, Lock()
        self._engine: Engine | None = None
        place.take()

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Features of images, as an engine gives them."""
        return self._ready()(images)

    def agree(self, golden: Mapping[str, np.ndarray], whose: str) -> int:
        """Check that golden features are the same here; give this process's id."""
        check_golden(self._ready(), golden, whose)
        return os.getpid()

    def make(self, group: Group) -> Done:
        """Make and write the part of a group."""
        engine = _InTurn(self._ready(), self._lock)
        parts, timings = list[Part](), Timings()
        carry_out(engine, self._work, [group], lambda _, part: parts.append(part), timings)
        timings.seconds["computing"] -= engine.waited
        part = parts[0]
        return Done(Part(part.paths, part.digests, failures=part.failures), timings)

    def _ready(self) -> Engine:
        with self._lock:
            if self._engine is None:
                runner = self._runner
                self._engine = make_engine(
                    runner.backbone, runner.spec, runner.device, runner.batch_size, runner.engine, runner.threads
                )
            return self._engine
