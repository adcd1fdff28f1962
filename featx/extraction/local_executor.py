"""Carrying out groups in one process: the whole of a plain run or a shard, and the parts in a cluster worker's hand."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.engines import Engine, Timings, group_parts
from featx.errors import ImageError
from featx.extraction.part_groups import Group
from featx.images import Listing
from featx.store import Part, PartFolder

Enter = Callable[[Group, Part], object]
"""What is told of each part that was made: the group's rows, and the part."""


@dataclass(frozen=True)
class ExtractJob:
    """What all who carry out groups must know: where images come from and parts go to.

    ``workers`` are the threads that decode in each process, ``max_pixels`` those of the largest image; ``strict``
    makes the first bad image an error.
    """

    listing: Listing
    store: Path
    workers: int
    max_pixels: int
    strict: bool


class LocalExecutor:
    """Carries out groups in this process."""

    def __init__(self, engine: Engine, work: ExtractJob) -> None:
        self.engine, self._work = engine, work

    def __enter__(self) -> "LocalExecutor":
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing is held."""

    def carry_out(
        self,
        groups: Sequence[Group],
        golden: Mapping[str, np.ndarray],
        enter: Enter,
        timings: Timings,
        advance: Callable[[int], object],
    ) -> None:
        """As `carry_out`; ``golden`` is for crews of several machines, each of which must agree with it."""
        carry_out(self.engine, self._work, groups, enter, timings, advance)


def carry_out(
    engine: Engine,
    work: ExtractJob,
    groups: Sequence[Group],
    enter: Enter,
    timings: Timings,
    advance: Callable[[int], object] = int,
) -> None:
    """Compute the parts of groups in order, each written beside the computing of the next.

    ``advance`` is called with the number of images that have just been done.

    Raises
    ------
    ImageError
        If an image is bad and the work is strict; its part is not written.
    StoreError
        If a part cannot be written.
    """
    folder, written = PartFolder(work.store), None
    parts = group_parts(engine, work.listing, groups, work.workers, work.max_pixels, advance, timings)
    with ThreadPoolExecutor(1, thread_name_prefix="featx-write") as writer:
        for group, part in zip(groups, parts, strict=True):
            if work.strict:
                check_none(part.failures)
            _finish(written)
            written = writer.submit(_write, folder, part, timings)
            enter(group, part)
        _finish(written)


def check_none(failures: Sequence[tuple[str, str]]) -> None:
    """Raise ``ImageError`` of the first of failures, of (path, reason) each."""
    if failures:
        raise ImageError(f"{': '.join(failures[0])}; without --strict it is recorded and passed over")


def _finish(written: Future[None] | None) -> None:
    if written:
        written.result()


def _write(folder: PartFolder, part: Part, timings: Timings) -> None:
    began = time.perf_counter()
    folder.write(part)
    timings.seconds["writing"] += time.perf_counter() - began
