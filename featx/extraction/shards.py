"""Split an extraction into parts, and divide the parts among shards that run as separate jobs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import SpecError, StoreCorrupt, StoreError
from featx.extraction.assembly_options import AssemblyOptions
from featx.images import ListingOptions, is_url
from featx.store import PartFolder

PartRows = NDArray[np.int64]
"""The rows of a listing that one part has, in ascending order."""


def split_into_parts(rows: PartRows, size: int) -> list[PartRows]:
    """Split rows, in order, into parts of ``size`` rows. The last part may have fewer rows."""
    return [rows[first : first + size] for first in range(0, len(rows), size)]


@dataclass(frozen=True)
class Shard:
    """One of several shards. ``count`` is how many there are, and ``number`` is the number of this one, from 1.

    With 16 shards, each shard has every 16th part. Images that are slow to decode often follow one another in the
    listing, so this spreads them over all shards.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read a shard such as ``3/16``. Raise ``SpecError`` if the text is not a shard."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise SpecError(f"--shard of extract must be N/COUNT with N from 1 to COUNT, such as 3/16, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def select(self, parts: Sequence[PartRows]) -> list[PartRows]:
        """Return the parts of this shard."""
        return list(parts[self.number - 1 :: self.count])


@dataclass(frozen=True)
class ShardedRun:
    """What `assemble_shards` must know about a run: its source, its number of shards, and how to make the store.

    Every shard writes this description as JSON beside the parts. ``source`` and ``root`` are absolute, so that
    `assemble_shards` can be called in any folder.
    """

    source: str
    root: str | None
    shards: int
    assembly: AssemblyOptions
    listing: ListingOptions

    @classmethod
    def start(
        cls,
        source: Any,
        root: str | Path | None,
        shards: int,
        assembly: AssemblyOptions,
        listing: ListingOptions,
        *,
        overwrite: bool,
    ) -> "ShardedRun":
        """Describe a run by the arguments of `extract`. Raise ``SpecError`` if its source cannot be listed again."""
        if not isinstance(source, str | Path):
            raise SpecError(
                "the source of a shard must be a path or URL, because featx assemble lists it again; "
                f"got {type(source).__name__}"
            )
        if overwrite:
            raise SpecError(
                "--overwrite of extract must be left out with --shard; to start again, remove the store and the "
                "folder .parts beside it"
            )
        return cls(_absolute(source), None if root is None else _absolute(root), shards, assembly, listing)

    def save(self, folder: PartFolder) -> None:
        """Write the description beside the parts."""
        folder.save_job(
            {
                "source": self.source,
                "root": self.root,
                "shards": self.shards,
                **asdict(self.assembly),
                "listing": self.listing.to_dict(),
            }
        )

    @classmethod
    def load(cls, folder: PartFolder) -> "ShardedRun":
        """Read the description that a shard has saved.

        Raises
        ------
        StoreError
            If no shard has run here.
        StoreCorrupt
            If the file does not contain a valid description.
        """
        if (job := folder.job) is None:
            raise no_shards(folder.store, f": there must be parts in {folder.path}")
        try:
            assembly = AssemblyOptions(**{name: job[name] for name in ("missing_images", "assemble", "dtype")})
            run = cls(job["source"], job["root"], job["shards"], assembly, ListingOptions(**job["listing"]))
        except (KeyError, TypeError, SpecError) as error:
            raise _corrupt_job(folder, error) from error
        if not (isinstance(run.source, str) and isinstance(run.root, str | None) and isinstance(run.shards, int)):
            raise _corrupt_job(folder, job)
        return run


def no_shards(store: Path, why: str = "") -> StoreError:
    """Make the error that is raised if a store has no parts of shards."""
    return StoreError(f"{store} has no shards to assemble{why}; run featx extract --shard N/COUNT first")


def _corrupt_job(folder: PartFolder, reason: Exception | Mapping[str, Any]) -> StoreCorrupt:
    return StoreCorrupt(f"the description of the run in {folder.path} is damaged ({reason!r}); run any shard again")


def _absolute(place: str | Path) -> str:
    return str(place) if is_url(place) else str(Path(place).absolute())
