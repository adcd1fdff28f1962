"""Measure time and memory of large stores. Each sub-command checks one claim.

    python benchmarks/stores.py million FLOWERS17 WORK

Each step runs in its own process. A sub-command uses up to 15 GB in WORK. It removes its files at the end, but
``compression`` keeps its stores. The script prints one line per figure.
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

SYNTHETIC = ExtractSpec(backbone_digest="0" * 64)
CLASSES = 10
SIZES = (100_000, 1_000_000)
STEPS = ("assemble", "virtual", "block", "random", "fit")
MEMORY = 4096


def million(_flowers: Path, work: Path) -> None:
    """Assemble, read and fit 100,000 and 1,000,000 synthetic rows of 1,472 columns; measure time and memory."""
    seconds: dict[tuple[str, int], float] = {}
    worst = 0.0
    for rows in SIZES:
        folder = work / f"rows-{rows}"
        make_parts(folder / "parts", rows)
        try:
            for step in STEPS:
                measured = run_step(step, folder, rows)
                seconds[step, rows] = measured["seconds"]
                worst = max(worst, measured["peak_mb"])
                say(f"{rows:,} rows, {step}: {measured['seconds']:.2f} s, "
                    f"peak {measured['peak_mb']:.0f} MB{measured['note']}")  # fmt: skip
        finally:
            subprocess.run(["rm", "-rf", str(folder)], check=True)
    for step in STEPS:
        few, many = (seconds[step, rows] for rows in SIZES)
        growth = math.log(many / few) / math.log(SIZES[1] / SIZES[0])
        say(f"{step}: time grows as rows ** {growth:.3f}")
    say(f"peak {worst:.0f} MB, limit {MEMORY} MB: {'holds' if worst <= MEMORY else 'FAILS'}")


def make_parts(folder: Path, rows: int) -> None:
    """Write part files as an extraction does, with random features and ten classes that differ in block 5."""
    from featx.store import PartFolder

    with PartFolder(folder / "rows.h5") as parts:
        for first in range(0, rows, rows_per_part(SYNTHETIC)):
            rng = np.random.default_rng(first)
            numbers = range(first, min(rows, first + rows_per_part(SYNTHETIC)))
            count = len(numbers)
            features = {
                name: rng.standard_exponential((count, width), np.float32) for name, width in SYNTHETIC.widths.items()
            }
            shifts = np.random.default_rng(0).random((CLASSES, SYNTHETIC.widths["block5_avg"]), np.float32)
            features["block5_avg"] += shifts[np.array(numbers) % CLASSES]
            parts.write(Part([name_of(n) for n in numbers], [f"{n:064x}" for n in numbers], [False] * count, features))


def name_of(number: int) -> str:
    """Return the path of a synthetic image. Within a class, the order of the paths is that of the numbers."""
    return f"class-{number % CLASSES}/{number:09}.jpg"


def run_step(step: str, folder: Path, rows: int) -> dict[str, Any]:
    """Run a step in its own process, and return its seconds, its peak memory and its note."""
    command = [sys.executable, __file__, "--step", step, str(folder), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def take_step(step: str, folder: Path, rows: int) -> None:
    """Run a step in this process, and print its seconds and the peak memory."""
    began = time.perf_counter()
    note = globals()[f"step_{step}"](folder, rows)
    seconds = time.perf_counter() - began
    # ru_maxrss would include the memory of the parent process.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    say(json.dumps({"seconds": seconds, "peak_mb": peak, "note": note or ""}))


def step_assemble(folder: Path, rows: int, layout: str = "copy") -> str:
    """Assemble a store from part files."""
    from featx.store import assemble

    numbers = np.arange(rows)
    table = RowTable([name_of(n) for n in range(rows)], [f"{n:064x}" for n in range(rows)], numbers % CLASSES,
                     [f"class-{c}" for c in range(CLASSES)], {}, [])  # fmt: skip
    references = {name: np.zeros((3, width), np.float32) for name, width in SYNTHETIC.widths.items()}
    target = folder / f"{layout}.h5"
    part_files = sorted((folder / "parts" / "rows.h5.parts").glob("*.part.h5"))
    assemble(target, table, SYNTHETIC, references, part_files, layout=layout)
    return f", {target.stat().st_size / 1e6:,.0f} MB"


def step_virtual(folder: Path, rows: int) -> str:
    """Assemble a store that refers to the part files."""
    return step_assemble(folder, rows, "virtual")


def step_block(folder: Path, _rows: int) -> str:
    """Read block 5 of all rows."""
    with Store(folder / "copy.h5") as store:
        return f", {store.read(['block5_avg']).nbytes / 1e6:,.0f} MB"


def step_random(folder: Path, rows: int) -> str:
    """Read a thousand random rows of block 5."""
    chosen = np.sort(np.random.default_rng(0).choice(rows, 1000, replace=False))
    before = bytes_read()
    with Store(folder / "copy.h5") as store:
        store.read(["block5_avg"], chosen)
    return f", {(bytes_read() - before) / 1e6:,.0f} MB read"


def step_fit(folder: Path, _rows: int) -> str:
    """Fit a softmax head on block 5, with C = 1 and streamed rows."""
    from featx.models import FitOptions, fit

    model = fit(
        folder / "copy.h5", folder / "model.featx", head="softmax", blocks=(5,), C=1.0, options=FitOptions(stream=True)
    )
    return f", {model.info['streamed']['passes']} passes over all rows"


def bytes_read() -> int:
    """Return the bytes that this process has read."""
    return int(Path("/proc/self/io").read_text().split()[1])


def listing(_flowers: Path, work: Path, rows: int = 10_000_000) -> None:
    """List a CSV of ten million rows. Measure time, peak memory, and the seconds until the first part is written."""
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
    """Write only the images of the first parts, because the extraction is stopped before it needs the others."""
    from PIL import Image

    for number in range(256):
        path = work / name_of(number)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)


def first_part(manifest: Path, work: Path) -> float:
    """Start an extraction, return the seconds until its first part is written, and stop the extraction."""
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
    """Compare HDF5 filters on pooled and flat features: size, write rate and read rate, by dtype."""
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
        # With many rows, the times are longer than the noise.
        values = np.tile(values, (math.ceil(2e8 / values.nbytes), 1))
        for dtype, (name, options) in itertools.product(("float32", "float16"), filters.items()):
            measured = rate_filter(work / "filter.h5", values.astype(dtype), options)
            say(f"{what} {dtype} {name}: {measured[0]:.3f} of the float32 bytes, write "
                f"{measured[1]:.0f} MB/s, read {measured[2]:.0f} MB/s")  # fmt: skip


def rate_filter(path: Path, values: np.ndarray, options: Mapping[str, Any]) -> tuple[float, float, float]:
    """Return the size relative to float32, and the MB of float32 features written and read per second."""
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
    float32_bytes = values.size * 4
    write, read = np.median(times, axis=0)
    return size / float32_bytes, float32_bytes / 1e6 / write, float32_bytes / 1e6 / read


CLAIMS: dict[str, Callable[..., None]] = {"million": million, "listing": listing, "compression": compression}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        take_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        run_claim(CLAIMS)
