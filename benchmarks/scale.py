"""Check shards and Ray workers on the photographs of Flowers-17. Each sub-command checks one claim.

    python benchmarks/scale.py same FLOWERS17 WORK

FLOWERS17 contains ``jpg/``; stores are written to WORK. The environment variable ``FEATX_IMAGES=300`` limits the number
of photographs. The script prints one line per figure.
"""

import io
import os
import shutil
import signal
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from reporting import run_claim, say, spread

from featx.extraction import assemble_shards, extract
from featx.extraction.ray_executor import STARTING, RayExecutor, _Task
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

SPEC = ExtractSpec(size=64)
ON_RAY = Compute(executor="ray", workers=2, cpus_per_worker=1)
ROUNDS = 5
PART_IMAGES = 16


def photographs(flowers: Path) -> list[Path]:
    """Return all photographs, or evenly spaced ones if ``FEATX_IMAGES`` limits their number."""
    paths = sorted((flowers / "jpg").rglob("*.jpg"))
    return paths[:: max(1, len(paths) // int(os.environ.get("FEATX_IMAGES", len(paths))))]


def sources(flowers: Path, work: Path) -> dict[str, Path]:
    """Write the photographs as a folder, as tar shards and as Parquet files."""
    places = {kind: work / kind for kind in ("folder", "tar", "parquet")}
    for place in places.values():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    paths_of_all = photographs(flowers)
    for number, first in enumerate(range(0, len(paths_of_all), 400)):
        paths = paths_of_all[first : first + 400]
        images = [path.read_bytes() for path in paths]
        table = pa.table({"image": images, "label": [path.parent.name for path in paths]})
        pq.write_table(table, places["parquet"] / f"{number:03}.parquet", row_group_size=100)
        with tarfile.open(places["tar"] / f"{number:03}.tar", "w") as tar:
            for path, data in zip(paths, images, strict=True):
                entry = tarfile.TarInfo(f"{path.parent.name}/{path.name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        for path in paths:
            (places["folder"] / path.name).symlink_to(path)
    return places


class KillingExecutor(RayExecutor):
    """A Ray executor that kills two of its workers while they compute."""

    kills = 0
    begun: ClassVar[list[int]] = []

    def _result(self, reference: object) -> object:
        value = super()._result(reference)
        if isinstance(value, int):
            KillingExecutor.begun.append(value)
        elif not isinstance(value, dict) and KillingExecutor.begun and KillingExecutor.kills < 2:
            KillingExecutor.kills += 1
            os.kill(KillingExecutor.begun.pop(), signal.SIGKILL)
        return value


def compared(one: Path, other: Path) -> str:
    """Describe how two stores differ."""
    with Store(one) as first, Store(other) as second:
        if (first.paths, first.digests) != (second.paths, second.digests):
            return "different rows"
        left, right = (store.read(store.spec.widths) for store in (first, second))
    if left.tobytes() == right.tobytes():
        return "files identical" if one.read_bytes() == other.read_bytes() else "arrays identical"
    return f"largest difference {np.abs(left - right).max():.3g} of {np.abs(left).max():.3g}"


def same(flowers: Path, work: Path) -> None:
    """Compare the stores of two Ray workers, of four shards and of killed workers with that of one process."""
    import featx.extraction.extraction_run

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    for kind, source in sources(flowers, work).items():
        stores = {name: work / f"{kind}-{name}.h5" for name in ("one", "ray", "shards", "killed")}
        for store in stores.values():
            store.unlink(missing_ok=True)
        rows = extract(source, stores["one"], SPEC).rows
        extract(source, stores["ray"], SPEC, ON_RAY)
        for number in (3, 1, 4, 2):
            extract(source, stores["shards"], SPEC, Compute(shard=f"{number}/4"))
        assemble_shards(stores["shards"])
        KillingExecutor.kills, KillingExecutor.begun = 0, []
        featx.extraction.extraction_run.RayExecutor = KillingExecutor
        extract(source, stores["killed"], SPEC, ON_RAY)
        featx.extraction.extraction_run.RayExecutor = RayExecutor
        for name in ("ray", "shards", "killed"):
            how = f" ({KillingExecutor.kills} kills)" if name == "killed" else ""
            say(f"{kind}, {rows} rows: {name}{how} compared with one process: {compared(stores['one'], stores[name])}")


def scaling(flowers: Path, work: Path) -> None:
    """Compare two Ray workers with one, and one Ray worker with the local executor, in alternation.

    Each worker and its decoding threads are bound to one core. Otherwise, the threads would use the other core too.

    Only the time in which parts are computed is measured, because the time to start workers does not grow with the
    number of images. The parts are small, so that a short run has as many parts as a long one.
    """
    import featx.extraction.extraction_plan

    featx.extraction.extraction_plan.images_per_part = lambda _: PART_IMAGES
    paths, store = [str(path) for path in photographs(flowers)], work / "scaling.h5"
    paths = paths[: len(paths) // (2 * PART_IMAGES) * 2 * PART_IMAGES]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    cores = os.sched_getaffinity(0)
    seconds: dict[str, list[float]] = {"local": [], "ray-1": [], "ray-2": []}
    for _ in range(ROUNDS):
        for name, times in seconds.items():
            times.append(_time_parts(paths, store, name, sorted(cores)))
            os.sched_setaffinity(0, cores)
    for name, times in seconds.items():
        say(f"{name}: {spread(times)} s for {len(paths)} images, {len(paths) / median(times):.1f} images/s")
    one, local = median(seconds["ray-1"]), median(seconds["local"])
    say(f"two workers compared with one: {one / median(seconds['ray-2']):.2f} x; "
        f"overhead of Ray on one core: {100 * (one / local - 1):+.1f} %")  # fmt: skip


def _time_parts(paths: list[str], store: Path, name: str, cores: list[int]) -> float:
    """Return the seconds from the start of the first part to the end of the last one."""
    stamps: list[float] = []
    plain = RayExecutor._check_worker

    def check_worker(executor: RayExecutor, worker: object, *given: object) -> None:
        # The clock starts when all workers have loaded the backbone.
        process = executor._ray.get(worker.check.remote(*given))  # type: ignore[attr-defined]
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {cores[len(executor._workers) - 1]})
        stamps[:] = [time.monotonic()]
        executor._tasks[ray.put(process)] = _Task(worker, STARTING)  # `_check_worker` does the same

    RayExecutor._check_worker = check_worker  # type: ignore[method-assign,assignment]
    from featx.extraction.extraction_plan import ExtractionPlan

    add_part = ExtractionPlan.add_part
    ExtractionPlan.add_part = lambda *given: (stamps.append(time.monotonic()), add_part(*given))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    try:
        if name == "local":
            os.sched_setaffinity(0, {cores[0]})
            from featx.extraction.local_executor import LocalExecutor

            run = LocalExecutor.run
            LocalExecutor.run = lambda *given: (stamps.append(time.monotonic()), run(*given))[1]  # type: ignore
            extract(paths, store, ExtractSpec(), Compute(workers=1), overwrite=True)
            LocalExecutor.run = run  # type: ignore[method-assign]
        else:
            compute = Compute(executor="ray", workers=int(name[-1]), cpus_per_worker=1)
            extract(paths, store, ExtractSpec(), compute, overwrite=True)
    finally:
        RayExecutor._check_worker, ExtractionPlan.add_part = plain, add_part  # type: ignore[method-assign]
    store.unlink()
    return stamps[-1] - stamps[0]


CLAIMS: dict[str, Callable[[Path, Path], None]] = {"same": same, "scaling": scaling}

if __name__ == "__main__":
    run_claim(CLAIMS)
