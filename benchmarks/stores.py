"""Measure what large stores cost; each claim is one sub-command, and each measurement a process of its own.

    python benchmarks/stores.py million FLOWERS17 WORK

WORK takes up to 15 GB while a claim runs, and is left as it was, but for the features of ``compression``. Prints one
line a figure.
"""

import itertools
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from reporting import run_claim, say

from featx.engines.streaming import rows_per_part
from featx.extraction import extract
from featx.spec import ExtractSpec
from featx.store import CHUNK_BYTES, Part, RowTable, Store

MADE = ExtractSpec(backbone_digest="0" * 64)
CLASSES = 10
SIZES = (100_000, 1_000_000)
STEPS = ("assemble", "virtual", "block", "random", "fit")
MEMORY = 4096


def million(_flowers: Path, work: Path) -> None:
    """Made rows of five blocks, 1,472 columns: assemble, read and fit; peak memory, and growth from 100 k to 1 M."""
    seconds: dict[tuple[str, int], float] = {}
    worst = 0.0
    for rows in SIZES:
        folder = work / f"made-{rows}"
        make_parts(folder / "parts", rows)
        try:
            for step in STEPS:
                told = alone(step, folder, rows)
                seconds[step, rows] = told["seconds"]
                worst = max(worst, told["peak_mb"])
                say(f"{rows:,} rows, {step}: {told['seconds']:.2f} s, peak {told['peak_mb']:.0f} MB{told['note']}")
        finally:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    for step in STEPS:
        few, many = (seconds[step, rows] for rows in SIZES)
        growth = math.log(many / few) / math.log(SIZES[1] / SIZES[0])
        say(f"{step}: grows with the rows to the power of {growth:.3f}")
    say(f"peak {worst:.0f} MB, at most {MEMORY} wanted: {'holds' if worst <= MEMORY else 'FAILS'}")


def make_parts(folder: Path, rows: int) -> None:
    """Part files as an extraction makes them, of rows that look like features, ten classes, of which each shifts some
    columns of block 5."""
    from featx.store import PartFolder

    with PartFolder(folder / "made.h5") as parts:
        for first in range(0, rows, rows_per_part(MADE)):
            rng = np.random.default_rng(first)
            numbers = range(first, min(rows, first + rows_per_part(MADE)))
            count = len(numbers)
            features = {
                name: rng.standard_exponential((count, width), np.float32) for name, width in MADE.widths.items()
            }
            shifts = np.random.default_rng(0).random((CLASSES, MADE.widths["block5_avg"]), np.float32)
            features["block5_avg"] += shifts[np.array(numbers) % CLASSES]
            parts.write(Part([name_of(n) for n in numbers], [f"{n:064x}" for n in numbers], [False] * count, features))


def name_of(number: int) -> str:
    """The path of a made image, in sorted order."""
    return f"class-{number % CLASSES}/{number:09}.jpg"


def alone(step: str, folder: Path, rows: int) -> dict[str, Any]:
    """What a step says when it runs in a process of its own."""
    command = [sys.executable, __file__, "--step", step, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def take_step(step: str, folder: Path, rows: int) -> None:
    """Do a step, and print its seconds and the peak memory of this process."""
    began = time.perf_counter()
    note = globals()[f"step_{step}"](folder, rows)
    seconds = time.perf_counter() - began
    # ru_maxrss would begin with that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    say(json.dumps({"seconds": seconds, "peak_mb": peak, "note": note or ""}))


def step_assemble(folder: Path, rows: int, how: str = "copy") -> str:
    """A store from part files."""
    from featx.store import assemble

    numbers = np.arange(rows)
    table = RowTable([name_of(n) for n in range(rows)], [f"{n:064x}" for n in range(rows)], numbers % CLASSES,
                     [f"class-{c}" for c in range(CLASSES)], {}, [])  # fmt: skip
    golden = {name: np.zeros((3, width), np.float32) for name, width in MADE.widths.items()}
    target = folder / f"{how}.h5"
    assemble(target, table, MADE, golden, sorted((folder / "parts" / "made.h5.parts").glob("*.part.h5")), layout=how)
    return f", {target.stat().st_size / 1e6:,.0f} MB"


def step_virtual(folder: Path, rows: int) -> str:
    """A store that refers to the part files."""
    return step_assemble(folder, rows, "virtual")


def step_block(folder: Path, _rows: int) -> str:
    """Block 5 of all rows."""
    with Store(folder / "copy.h5") as store:
        return f", {store.read(['block5_avg']).nbytes / 1e6:,.0f} MB"


def step_random(folder: Path, rows: int) -> str:
    """A thousand random rows of block 5."""
    chosen = np.sort(np.random.default_rng(0).choice(rows, 1000, replace=False))
    before = bytes_read()
    with Store(folder / "copy.h5") as store:
        store.read(["block5_avg"], chosen)
    return f", {(bytes_read() - before) / 1e6:,.0f} MB read"


def step_fit(folder: Path, _rows: int) -> str:
    """Softmax on block 5, C = 1, rows streamed."""
    from featx.models import FitOptions, fit

    model = fit(
        folder / "copy.h5", folder / "model.featx", head="softmax", blocks=(5,), C=1.0, options=FitOptions(stream=True)
    )
    return f", {model.info['streamed']['passes']} passes over all rows"


def bytes_read() -> int:
    """Bytes that this process has asked the system for."""
    return int(Path("/proc/self/io").read_text().split()[1])


def listing(_flowers: Path, work: Path, rows: int = 10_000_000) -> None:
    """A made CSV of ten million rows: time and peak memory of the listing, and seconds to the first part on disk."""
    manifest, folders = work / "listing.csv", [work / f"class-{c}" for c in range(CLASSES)]
    try:
        make_first_images(work)
        with manifest.open("w") as file:
            file.write("path,label\n")
            for first in range(0, rows, 100_000):
                file.writelines(f"{name_of(n)},class-{n % CLASSES}\n" for n in range(first, first + 100_000))
        code = ("import sys, time; from featx.images import list_images; began = time.perf_counter()\n"
                "found = list_images(sys.argv[1]); seconds = time.perf_counter() - began\n"
                "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0]\n"
                "print(f'{len(found):,} rows listed in {seconds:.1f} s, peak {int(peak) / 1024:.0f} MB')")  # fmt: skip
        command = [sys.executable, "-c", code, str(manifest)]
        say(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        say(f"first part on disk after {first_part(manifest, work):.1f} s, at 32 px, block 1")
    finally:
        subprocess.run(["rm", "-rf", str(manifest), *map(str, folders)], check=True)


def make_first_images(work: Path) -> None:
    """The images of the first parts alone; the others would be failures."""
    from PIL import Image

    for number in range(256):
        path = work / name_of(number)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)


def first_part(manifest: Path, work: Path) -> float:
    """Seconds from the start of an extraction until its first part is there; then it is stopped."""
    target = work / "listing.h5"
    command = [sys.executable, "-m", "featx", "extract", str(manifest), "-o", str(target), "--size", "32",
               "--blocks", "1", "--quiet"]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command)
    parts = target.with_name(target.name + ".parts")
    try:
        while process.poll() is None and not list(parts.glob("*.part.h5")):
            time.sleep(0.1)
        return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()
        subprocess.run(["rm", "-rf", str(parts)], check=True)


def compression(flowers: Path, work: Path) -> None:
    """Size, write and read time of pooled and flat features of every fourth photograph, by filter and dtype."""
    import hdf5plugin

    filters: dict[str, Mapping[str, Any]] = {
        "none": {},
        "gzip 1": {"compression": "gzip", "compression_opts": 1},
        "shuffle, gzip 1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
        "bitshuffle, LZ4": hdf5plugin.Bitshuffle(cname="lz4"),
        "bitshuffle, Zstd": hdf5plugin.Bitshuffle(cname="zstd"),
        "Blosc2 LZ4": hdf5plugin.Blosc2(cname="lz4", filters=hdf5plugin.Blosc2.BITSHUFFLE),
        "Blosc2 Zstd": hdf5plugin.Blosc2(cname="zstd", clevel=5, filters=hdf5plugin.Blosc2.BITSHUFFLE),
    }
    specs = {"pooled": ExtractSpec(), "flat": ExtractSpec(blocks=(5,), pools=("flat",))}
    photographs = sorted((flowers / "jpg").rglob("*.jpg"))[::4]
    for what, spec in specs.items():
        extract(photographs, work / f"every-fourth-{what}.h5", spec)
        with Store(work / f"every-fourth-{what}.h5") as store:
            values = store.read(spec.widths)
        # Many rows, so that the times can be told from noise.
        values = np.tile(values, (math.ceil(2e8 / values.nbytes), 1))
        for dtype, (name, options) in itertools.product(("float32", "float16"), filters.items()):
            told = rate_filter(work / "filter.h5", values.astype(dtype), options)
            say(f"{what} {dtype} {name}: {told[0]:.3f} of float32's bytes, write {told[1]:.0f} MB/s, "
                f"read {told[2]:.0f} MB/s")  # fmt: skip


def rate_filter(path: Path, values: np.ndarray, options: Mapping[str, Any]) -> tuple[float, float, float]:
    """Bytes on disk to those of float32; MB of features, as float32, written and read a second, medians of three."""
    rows = max(1, CHUNK_BYTES // values[0].nbytes)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        with h5py.File(path, "w") as file:
            data = file.create_dataset("x", data=values, chunks=(rows, values.shape[1]), fletcher32=True, **options)
            size = data.id.get_storage_size()
        written = time.perf_counter()
        with h5py.File(path) as file:
            file["x"][:]
        times.append((written - began, time.perf_counter() - written))
    path.unlink()
    whole = values.size * 4
    write, read = np.median(times, axis=0)
    return size / whole, whole / 1e6 / write, whole / 1e6 / read


CLAIMS: dict[str, Callable[..., None]] = {"million": million, "listing": listing, "compression": compression}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        take_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        run_claim(CLAIMS)
