"""Check the claims of featx on the photographs of Flowers-17. Each sub-command checks one claim.

    python benchmarks/evidence.py classic FLOWERS17 WORK

FLOWERS17 contains ``jpg/`` and ``splits.csv``; WORK keeps the stores for later commands. The
script prints one line per figure.
"""

import csv
import itertools
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from reporting import run_claim, say

from featx.backbones import load_backbone
from featx.engines import make_engine
from featx.extraction import extract
from featx.heads import HEADS
from featx.images import decode, list_images, load_images, preprocess
from featx.models import FitOptions, Validation, evaluate, fit
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import Store

SPLITS = [f"split_{number}" for number in range(5)]


def store_of(flowers: Path, work: Path, name: str, spec: ExtractSpec) -> Path:
    """Extract all photographs into the store ``name``, unless it exists, and return its path."""
    report = extract(flowers / "splits.csv", work / f"{name}.h5", spec, Compute(progress=True), root=flowers / "jpg")
    say(f"{name}: {report.extracted} of {report.rows} extracted in {report.seconds:.0f} s")
    return work / f"{name}.h5"


def accuracies(store: Path, columns: list[str], folds: int = 5, **options: object) -> np.ndarray:
    """Fit a model on the training rows of each split, and return the test accuracies."""
    scores = []
    for column in columns:
        model = fit(store, validation=Validation(split_column=column, folds=folds), **options)  # type: ignore[arg-type]
        scores.append(evaluate(model, store)["accuracy"])
        chosen = f"{model.head} blocks {','.join(map(str, model.spec.blocks))} C={model.info['C']:g}"
        say(f"  {column}: {scores[-1]:.4f} ({chosen})")
    return np.array(scores)


def right(flowers: Path, work: Path) -> None:
    """Compare features of 32 photographs in fp32 with onnxruntime on the original graph, and bf16 with fp32."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from test_engine import independent_averages, open_graph

    photographs = sorted((flowers / "jpg").rglob("*.jpg"))[::42][:32]
    pixels = np.stack([preprocess(decode(path.read_bytes()).image, ExtractSpec()) for path in photographs])
    expected, backbone = independent_averages(open_graph(work), pixels), load_backbone()
    for engine in ("torch", "openvino", "ncnn"):
        fp32 = make_engine(backbone, ExtractSpec(), "cpu", engine=engine)(pixels)
        for (name, values), reference in zip(fp32.items(), expected, strict=True):
            error = np.abs(values - reference).max() / np.abs(reference).max()
            say(f"{engine} {name}: largest relative error {error:.1e}")
        if engine == "ncnn":  # ncnn computes only in fp32
            continue
        bf16 = make_engine(backbone, ExtractSpec(precision="bf16"), "cpu", engine=engine)(pixels)
        for name, values in fp32.items():
            norms = np.linalg.norm(values, axis=1) * np.linalg.norm(bf16[name], axis=1)
            say(f"{engine} {name}: bf16 against fp32 cosine {((values * bf16[name]).sum(1) / norms).min():.6f}")


def classic(flowers: Path, work: Path) -> None:
    """Measure the classic recipe: all raw values of block 5, and LogisticRegression with C = 0.1."""
    store = store_of(flowers, work, "flat224", ExtractSpec(blocks=(5,), pools=("flat",)))
    options = {"head": "softmax", "C": 0.1, "options": FitOptions(normalize="none"), "folds": 2}
    scores = accuracies(store, [*SPLITS, "split_folder"], **options)
    say(f"classic recipe: mean {scores[:5].mean():.4f} over split_0 … split_4, {scores[5]:.4f} on split_folder")


def default(flowers: Path, work: Path, size: int = 224) -> None:
    """Measure the accuracy of the defaults, then that of each head."""
    store = store_of(flowers, work, f"default{size}", ExtractSpec(size=size))
    for head in ("best", *HEADS):
        scores = accuracies(store, SPLITS, head=head)
        say(f"{size} px, --head {head}: mean {scores.mean():.4f}, standard deviation {scores.std(ddof=1):.4f}")


def precisions(flowers: Path, work: Path) -> None:
    """Measure the accuracy that each precision loses, with a head chosen at that precision and with a fixed head."""
    heads: dict[str, dict[str, object]] = {"chosen": {}, "fixed": {"blocks": (3, 4, 5), "C": 1.0}}
    means: dict[str, float] = {}
    for precision, (kind, options) in itertools.product(("fp32", "bf16", "int8"), heads.items()):
        name = "default224" if precision == "fp32" else f"{precision}224"
        store = store_of(flowers, work, name, ExtractSpec(precision=precision))
        mean = float(accuracies(store, SPLITS, head="linear-svc", **options).mean())
        lost = 100 * (mean - means.setdefault(kind, mean))
        say(f"{precision}, head {kind}: mean {mean:.4f}, {lost:+.2f} points to fp32")


def steady(flowers: Path, work: Path) -> None:
    """Compare the rate and the peak memory for 200 and for 20,000 images, which are links to the photographs.

    Runs of one batch measure the time to start, which is subtracted. The short runs take place before and after the
    long run, and their medians are used.
    """
    photographs = sorted((flowers / "jpg").resolve().rglob("*.jpg"))
    folder = work / "links"
    folder.mkdir(exist_ok=True)
    for number in range(20_000):
        link = folder / f"{number:05}.jpg"
        if not link.is_symlink():
            link.symlink_to(photographs[number % len(photographs)])
    code = (
        "import sys, resource; from featx import ExtractSpec, extract\n"
        "paths = [f'{sys.argv[1]}/{number:05}.jpg' for number in range(int(sys.argv[3]))]\n"
        "report = extract(paths, sys.argv[2], ExtractSpec(size=64), overwrite=True)\n"
        "print(report.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    batch, few, many = 16, 200, 20_000
    runs: dict[int, list[tuple[float, float]]] = {batch: [], few: [], many: []}
    for count in (*(batch, few) * 3, many, *(batch, few) * 2):
        command = [sys.executable, "-c", code, str(folder), str(work / "steady.h5"), str(count)]
        seconds, peak = map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        runs[count].append((seconds, peak))
    start = float(np.median([seconds for seconds, _ in runs[batch]]))
    say(f"start: {start:.2f} s")
    for count in (few, many):
        seconds, peak = np.median(runs[count], axis=0)
        started, total = (count - batch) / (seconds - start), count / seconds
        say(f"{count} images: {started:.1f} images/s without the start, {total:.1f} with it, peak {peak:.0f} MB")


def loading(flowers: Path, _work: Path, rounds: int = 3) -> None:
    """Compare two threads with two processes that load photographs, in alternation.

    On a machine with many cores, the CPU time that the main process uses per image limits the rate.
    """
    listing, spec = list_images(flowers / "jpg"), ExtractSpec()
    runs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for processes in (False, True) * rounds:
        images = load_images(listing, range(len(listing)), spec, 2, processes=processes)
        list(itertools.islice(images, 100))  # after these images, all processes have started
        began, used = time.perf_counter(), time.process_time()
        count = sum(image.pixels is not None for image in images)
        runs[processes].append((count / (time.perf_counter() - began), 1000 * (time.process_time() - used) / count))
    for processes, figures in runs.items():
        rate, own = np.median(figures, axis=0)
        kind = "processes" if processes else "threads"
        say(f"{kind}: {rate:.0f} images/s, {own:.2f} ms of the main process per image")


def depth(flowers: Path, work: Path) -> None:
    """Compare the time of extracting block 2 alone with that of all five blocks, by medians of three runs."""
    paths = sorted((flowers / "jpg").rglob("*.jpg"))[::10]
    seconds: dict[str, list[float]] = {"2": [], "1-5": []}
    for turn, (blocks, times) in itertools.product(range(3), seconds.items()):
        spec = ExtractSpec(blocks=(2,) if blocks == "2" else (1, 2, 3, 4, 5))
        report = extract(paths, work / f"depth-{blocks}-{turn}.h5", spec, overwrite=True)
        times.append(report.seconds)
    two, five = (float(np.median(times)) for times in seconds.values())
    say(f"block 2 alone {two:.2f} s, blocks 1 to 5 {five:.2f} s, {len(paths)} images: {100 * two / five:.0f} %")


def memory(flowers: Path, work: Path) -> None:
    """Compare the peak memory of extracting 200 images and all images, each in its own process."""
    peaks = []
    with (flowers / "splits.csv").open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    for count in (200, len(paths)):
        manifest = work / f"memory-{count}.csv"
        manifest.write_text("\n".join(["path", *paths[:count]]))
        target = work / f"memory-{count}.h5"
        target.unlink(missing_ok=True)
        code = (
            "import sys, resource; from featx import ExtractSpec, extract\n"
            "extract(sys.argv[1], sys.argv[2], ExtractSpec(size=96), root=sys.argv[3])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        command = [sys.executable, "-c", code, str(manifest), str(target), str(flowers / "jpg")]
        peaks.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        say(f"{count} images: peak {peaks[-1]:.0f} MB")
    say(f"ratio {peaks[1] / peaks[0]:.3f}")


def survives(flowers: Path, work: Path, kills: int = 20) -> None:
    """Kill an extraction at random moments and resume it; compare its store with that of an undisturbed run."""
    paths = sorted((flowers / "jpg").rglob("*.jpg"))
    manifest = work / "survives.csv"
    manifest.write_text("\n".join(["path", *(str(path.relative_to(flowers / "jpg")) for path in paths)]))
    options = ["--root", str(flowers / "jpg"), "--size", "64", "--quiet"]

    def run(target: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "featx", "extract", str(manifest), "-o", str(target), *options]
        return subprocess.Popen(command)

    reference, killed = work / "reference.h5", work / "killed.h5"
    reference.unlink(missing_ok=True)
    killed.unlink(missing_ok=True)
    began = time.monotonic()
    run(reference).wait()
    seconds = time.monotonic() - began
    rng = random.Random(0)
    done = 0
    while done < kills:
        process = run(killed)
        time.sleep(rng.uniform(0.5, 1.0) * seconds / 3)
        done += process.poll() is None
        if killed.exists():
            killed.unlink()  # it was finished before the kill: start again
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(killed).wait()
    with Store(reference) as one, Store(killed) as other:
        same = one.read(one.spec.widths).tobytes() == other.read(other.spec.widths).tobytes()
    left = [path.name for path in work.iterdir() if "killed" in path.name and path != killed]
    same_file = reference.read_bytes() == killed.read_bytes()
    say(f"{done} kills: arrays identical {same}, files identical {same_file}, files left over: {left or 'nothing'}")


def light(_flowers: Path, _work: Path) -> None:
    """Time ``featx --help`` and ``import featx`` in seconds, by medians of nine runs."""
    launcher = str(Path(sys.executable).with_name("featx"))
    for command in ([launcher, "--help"], [sys.executable, "-c", "import featx"], [sys.executable, "-c", ""]):
        seconds = []
        for _ in range(9):
            began = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.monotonic() - began)
        say(f"{' '.join([Path(command[0]).name, *command[1:]])}: {np.median(seconds):.3f} s")


CLAIMS: dict[str, Callable[..., None]] = {
    "right": right,
    "classic": classic,
    "default": default,
    "default384": lambda flowers, work: default(flowers, work, 384),
    "precisions": precisions,
    "steady": steady,
    "loading": loading,
    "depth": depth,
    "memory": memory,
    "survives": survives,
    "light": light,
}

if __name__ == "__main__":
    run_claim(CLAIMS)
