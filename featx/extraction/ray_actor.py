"""Define the actor that runs on each Ray worker. It keeps an engine, and computes the parts that it is given.

This module does not import Ray, so that the actor can be tested without Ray.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from featx.engines import Engine, StageTimings, check_reference_features
from featx.extraction.local_executor import EngineConfig, ExtractJob, write_parts
from featx.extraction.shards import PartRows
from featx.files import limit_variables
from featx.images import Plugin, register_plugins, registered_plugins
from featx.runtime import no_progress
from featx.store import Part


@dataclass(frozen=True)
class ProcessEnvironment:
    """The working folder, limits and Pillow plugins of the driver process. Its actors must use the same ones."""

    folder: Path
    limits: dict[str, str]
    plugins: list[Plugin] = field(default_factory=list)

    @classmethod
    def current(cls) -> "ProcessEnvironment":
        """Return the environment of this process."""
        return cls(Path.cwd(), limit_variables(), registered_plugins())

    def apply(self) -> None:
        """Use this environment in this process."""
        os.environ.update(self.limits)
        # If a node lacks a plugin, only the images that need it fail.
        register_plugins(self.plugins)
        # If a node does not have this folder, only relative paths fail, and the error messages name these paths.
        with suppress(OSError):
            os.chdir(self.folder)


@dataclass
class ComputedPart:
    """A part that was computed and written, and the time that its stages took. It does not have the part's features."""

    part: Part
    timings: StageTimings = field(default_factory=StageTimings)


class _SharedEngine:
    """An engine that several threads use in turn. ``waited`` is how long this thread has waited, in seconds."""

    def __init__(self, engine: Engine, lock: Lock) -> None:
        self._engine, self._lock, self.waited = engine, lock, 0.0
        self.spec, self.batch_size, self.on_gpu = engine.spec, engine.batch_size, engine.on_gpu

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        began = time.perf_counter()
        with self._lock:
            self.waited += time.perf_counter() - began
            return self._engine(images)


class RayActor:
    """Computes parts on a Ray worker, in the environment of the driver.

    Two calls may run at the same time. One then decodes images while the other one computes features.
    """

    def __init__(self, config: EngineConfig, job: ExtractJob, environment: ProcessEnvironment) -> None:
        self._config, self._job, self._lock = config, job, Lock()
        self._engine: Engine | None = None
        environment.apply()

    def compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the features of images, as an engine does."""
        return self._get_engine()(images)

    def check(self, references: Mapping[str, np.ndarray], owner: str) -> int:
        """Check that this machine computes the features ``references`` of the reference images; return the process id.

        Raises
        ------
        SpecMismatch
            If this machine computes other features. The message names ``owner``.
        """
        remedy = "install the same package versions on all nodes"
        check_reference_features(self._get_engine(), references, owner, remedy)
        return os.getpid()

    def write_part(self, rows: PartRows) -> ComputedPart:
        """Compute and write the part with the given rows of the listing."""
        engine = _SharedEngine(self._get_engine(), self._lock)
        parts, timings = list[Part](), StageTimings()
        write_parts(engine, self._job, [rows], lambda _, part: parts.append(part), timings, no_progress)
        timings.seconds["computing"] -= engine.waited
        part = parts[0]
        return ComputedPart(Part(part.paths, part.digests, failures=part.failures), timings)

    def _get_engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._config.make_engine()
            return self._engine
