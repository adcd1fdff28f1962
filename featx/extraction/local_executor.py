"""Compute and write parts in this process: all parts of a run or shard, or the parts assigned to a Ray worker."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.backbones import BackboneWeights
from featx.engines import Engine, StageTimings, grouped_feature_parts, make_engine
from featx.errors import ImageError
from featx.extraction.shards import PartRows
from featx.images import Listing
from featx.spec import ExtractSpec
from featx.store import Part, PartFolder

OnPart = Callable[[PartRows, Part], object]
"""Callback for each computed part. Its arguments are the rows of the listing that the part has, and the part."""
OnProgress = Callable[[int], object]
"""Callback that is called with the number of images that were just finished."""


@dataclass(frozen=True)
class ExtractJob:
    """What every process of an extraction must know, such as where to read images and where to write parts.

    ``workers`` is the number of threads per process that decode images. With ``strict``, an image that cannot be read
    is an error.
    """

    listing: Listing
    store: Path
    workers: int
    max_pixels: int
    strict: bool


@dataclass(frozen=True)
class EngineConfig:
    """The arguments that an engine is made with; see `featx.engines.make_engine`."""

    backbone: BackboneWeights
    spec: ExtractSpec
    device: str
    batch_size: int | None
    engine: str
    threads: int | None = None

    def make_engine(self, spec: ExtractSpec | None = None) -> Engine:
        """Make the engine. If ``spec`` is given, it replaces the spec of this object."""
        return make_engine(
            self.backbone, spec or self.spec, self.device, self.batch_size, self.engine, self.threads
        )  # fmt: skip


class LocalExecutor:
    """Computes parts in this process. It has the same methods as `featx.extraction.ray_executor.RayExecutor`."""

    def __init__(self, engine: Engine, job: ExtractJob) -> None:
        self.engine, self._job = engine, job

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *raised: object) -> None:
        """Do nothing, because there is nothing to release."""

    def run(
        self,
        parts: Sequence[PartRows],
        references: Mapping[str, np.ndarray],
        on_part: OnPart,
        timings: StageTimings,
        on_progress: OnProgress,
    ) -> None:
        """Compute and write parts, as `write_parts` does. ``references`` is not used, because there is one machine."""
        write_parts(self.engine, self._job, parts, on_part, timings, on_progress)


def write_parts(
    engine: Engine,
    job: ExtractJob,
    parts: Sequence[PartRows],
    on_part: OnPart,
    timings: StageTimings,
    on_progress: OnProgress,
) -> None:
    """Compute parts in order, and write them. A part is written while the next part is computed.

    Raises
    ------
    ImageError
        If an image cannot be read and the job is strict. The part with this image is not written.
    StoreError
        If a part cannot be written.
    """
    folder, previous = PartFolder(job.store), None
    computed = grouped_feature_parts(engine, job.listing, parts, job.workers, job.max_pixels, on_progress, timings)
    with ThreadPoolExecutor(1, thread_name_prefix="featx-write") as writer:
        for rows, part in zip(parts, computed, strict=True):
            if job.strict:
                refuse_failures(part.failures)
            _wait(previous)
            previous = writer.submit(_write, folder, part, timings)
            on_part(rows, part)
        _wait(previous)


def refuse_failures(failures: Sequence[tuple[str, str]]) -> None:
    """Raise ``ImageError`` for the first failure, if there is any."""
    if failures:
        raise ImageError(f"{': '.join(failures[0])}; without --strict it is recorded and skipped")


def _wait(write: Future[None] | None) -> None:
    if write:
        write.result()


def _write(folder: PartFolder, part: Part, timings: StageTimings) -> None:
    began = time.perf_counter()
    folder.write(part)
    timings.seconds["writing"] += time.perf_counter() - began
