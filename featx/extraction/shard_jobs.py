"""Sharded runs: what a shard notes for the assembling, and what is missing when it comes to that."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from featx.engines import Engine, compute_golden
from featx.errors import SpecError, StoreError
from featx.extraction.part_groups import Shard
from featx.extraction.precision import ResolvedPrecision
from featx.extraction.update import ExtractionPlan
from featx.images import is_url
from featx.spec import ExtractSpec
from featx.store import PartFolder


def make_job(
    source: Any, root: str | Path | None, ending: Mapping[str, str | None], shard: Shard, *, overwrite: bool
) -> dict[str, Any]:
    """What the assembling must know of a run: ``SpecError`` if it could not find the images again."""
    if not isinstance(source, str | Path):
        raise SpecError(
            "the source of a shard must be a path or URL, which featx assemble lists again; "
            f"got {type(source).__name__}"
        )
    if overwrite:
        raise SpecError("--overwrite of extract must be left out with --shard: remove the store, and what is beside it")
    return {"source": _absolute(source), "root": None if root is None else _absolute(root), "shards": shard.count,
            **ending}  # fmt: skip


def _absolute(place: str | Path) -> str:
    return str(place) if is_url(place) else str(Path(place).absolute())


def calibrated_first(folder: PartFolder, settled: ResolvedPrecision, engine: Engine) -> ResolvedPrecision:
    """What a shard has just calibrated, or, where another has begun meanwhile, the other's.

    Two machines calibrate alike but for rounding, and one run has one calibration. So that the first to be done with it
    decides, it is written down here and now.
    """
    golden = compute_golden(engine)
    with folder.exclusive():
        first = folder.spec
        if first is None:
            folder.create_run(settled.spec, golden)
            return settled
    return ResolvedPrecision(dataclasses.replace(settled.spec, calibration=first.calibration), settled.agreement)


def read_job(folder: PartFolder) -> tuple[dict[str, Any], tuple[ExtractSpec, dict[str, np.ndarray]]]:
    """What a shard noted, and what its parts are of; ``StoreError`` if there was none."""
    job, spec = folder.job, folder.spec
    golden = folder.load_run(spec) if spec else None
    if job is None or spec is None or golden is None:
        raise StoreError(
            f"{folder.store} has no shards to assemble: there must be parts in {folder.path}, "
            "which featx extract --shard N/COUNT writes"
        )
    return job, (spec, golden)


def check_complete(store: Path, ledger: ExtractionPlan, shards: int, *, partial: bool) -> None:
    """Raise ``StoreError`` if there are images that no part holds, and say which shards have them.

    With ``partial`` they may be missing, if there are others.
    """
    if partial and ledger.digests.any():
        return
    open_shards = [shard for number in range(1, shards + 1)
                   if ledger.untried((shard := Shard(number, shards)).pick(ledger.plan))]  # fmt: skip
    if not open_shards:
        return
    count = int(sum(map(len, ledger.untried(ledger.plan))))
    names = ", ".join(map(str, open_shards[:8])) + (", …" if len(open_shards) > 8 else "")
    remedy = f"run featx extract with --shard {names}"
    if partial:
        raise StoreError(f"{store} must have at least one row to be assembled, and no part has any yet; {remedy}")
    raise StoreError(
        f"{store} must have all shards done to be assembled, got {shards - len(open_shards)} of {shards}: "
        f"{count} of {len(ledger.rows)} images are missing; {remedy}, or give --partial to leave them out"
    )
