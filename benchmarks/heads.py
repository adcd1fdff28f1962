"""Choosing C by cross-validation: featx's batched solver against GridSearchCV, on the same rows, grid and folds.

    python benchmarks/heads.py FLOWERS17 WORK [--rounds 3] [--rows 1000 10000 100000]

Every way runs in a process of its own, in alternation. Features are blocks 3 to 5 (1,280 columns) and block 5,
flat (25,088), normalized once for all; then made data of more rows and columns. scikit-learn-intelex is in
``.venv-peers``. Results go to docs/benchmarks/heads.json and .svg and into docs/benchmarks.md.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from evidence import store_of
from reporting import described, machine, present, say, spread, table
from sklearn.preprocessing import StandardScaler

from featx.drawing import make_figure
from featx.heads import HEADS, BlockNormalizer, default_grid, make_folds
from featx.spec import ExtractSpec
from featx.store import Store

ROOT = Path(__file__).parents[1]
SCRIPT = Path(__file__).parent / "contenders" / "head_search.py"
PYTHONS = {
    **dict.fromkeys(("featx", "sklearn", "sklearn-exact", "sklearn-once", "array-api"), sys.executable),
    "intelex": str(ROOT / ".venv-peers" / "bin" / "python"),
}


def flowers_data(flowers: Path, work: Path, name: str, normalize: str, blocks: tuple[int, ...], pool: str) -> Path:
    """Normalized features of Flowers-17, split_0, with grids and folds."""
    spec = ExtractSpec(blocks=blocks, pools=(pool,))
    kept = "flat224" if pool == "flat" else "default224"
    with Store(store_of(flowers, work, kept, spec if pool == "flat" else ExtractSpec())) as store:
        X, y = store.read(spec.widths), np.array(store.classes)[store.labels]
        train, test = store.rows_in_split("train", "split_0"), store.rows_in_split("test", "split_0")
    normalizer = StandardScaler() if normalize == "standard" else BlockNormalizer(tuple(spec.widths.values()))
    X = normalizer.fit(X[train]).transform(X).astype(np.float32)
    return write(work / f"heads-{name}.npz", X, y, train, test)


def made_data(work: Path, rows: int, columns: int, classes: int = 10) -> Path:
    """Gaussian classes in random directions, hard enough to be confused, rows of unit norm as features are."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    centers = rng.standard_normal((classes, columns), np.float32) * (2.5 / np.sqrt(columns))
    X = centers[y] + rng.standard_normal((rows, columns), np.float32) / np.sqrt(columns) * 2
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    every = np.arange(rows)
    return write(work / f"heads-made-{rows}-{columns}.npz", X, y, every, every[:100])


def write(path: Path, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> Path:
    """An .npz for the contenders, with four values of C for each head: the first of featx's own grid."""
    folds = np.empty(len(train), int)
    for number, (_, rows) in enumerate(make_folds(y[train], None, 5, 1, 0)):
        folds[rows] = number
    grids = {f"Cs_{head}": np.array(default_grid(head, X[train[:2000]])[:4]) for head in HEADS}
    np.savez(path, X=X, y=y, train=train, test=test, folds=folds, **grids)
    return path


def run(way: str, data: Path, head: str, threads: int) -> dict[str, object] | None:
    """One way's answer; None if it cannot run here."""
    if not Path(PYTHONS[way]).exists():
        return None
    # Some machines pin OpenBLAS to old kernels; every way gets the processor's own.
    environment = {k: v for k, v in os.environ.items() if k not in {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}}
    command = [PYTHONS[way], str(SCRIPT), way, str(data), head, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        say(f"  {way} {head}: {(done.stderr.strip().splitlines() or [f'ended with {done.returncode}'])[-1]}")
        return None
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    what = f"{data.stem} {head} {way}, {threads} threads"
    say(f"  {what}: {answer['seconds']:.2f} s, {answer['peak_mb']} MB, C={answer['C']:g}")
    return answer


def race(data: Path, head: str, ways: tuple[str, ...], threads: int, rounds: int) -> dict[str, list[dict[str, object]]]:
    """Every way, in alternation."""
    answers: dict[str, list[dict[str, object]]] = {way: [] for way in ways}
    for way in [way for _ in range(rounds) for way in ways]:
        answer = run(way, data, head, threads)
        if answer:
            answers[way].append(answer)
    return {way: found for way, found in answers.items() if found}


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Flowers-17 by head, columns and threads; then growth."""
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    sets = {
        f"{columns} columns, {normalize}": flowers_data(
            options.flowers, work, f"{pool}-{normalize}", normalize, blocks, pool
        )
        for columns, blocks, pool in (("1,280", (3, 4, 5), "avg"), ("25,088", (5,), "flat"))
        for normalize in options.normalize
    }
    flowers = [
        {"data": name, "head": head, "threads": threads,
         "ways": race(data, head, ways_of(head, options.without), threads, options.rounds)}
        for name, data in sets.items() for head in HEADS for threads in options.threads
    ]  # fmt: skip
    sizes = [(rows, 1280) for rows in options.rows] + [(1000, 512), (1000, 25_088)]
    growth = [
        {"rows": rows, "columns": columns, "ways": race(made_data(work, rows, columns), "softmax",
                                                        ("featx", "sklearn" if rows <= 10_000 else "sklearn-once"),
                                                        os.cpu_count() or 1, 1)}
        for rows, columns in sizes
    ]  # fmt: skip
    return {"machine": machine(), "flowers": flowers, "growth": growth}


def ways_of(head: str, without: list[str]) -> tuple[str, ...]:
    """LinearSVC has no array API, nor a patch in scikit-learn-intelex."""
    both = ("featx", "sklearn", "sklearn-exact")
    more = {"linear-svc": (), "softmax": ("intelex", "array-api"), "ovr-logistic": ("intelex",)}[head]
    ways = (*both, *more)
    return tuple(way for way in ways if way not in without)


def seconds(answers: list[dict[str, object]]) -> list[float]:
    """Of each round."""
    return [float(answer["seconds"]) for answer in answers]  # type: ignore[arg-type]


def largest_gap(ours: dict[str, object], theirs: dict[str, object]) -> float:
    """The largest difference of a CV mean, in points."""
    pairs = zip(ours["cv"].values(), theirs["cv"].values(), strict=True)  # type: ignore[attr-defined]
    return max(100 * abs(a - b) for a, b in pairs)


def cost(answers: list[dict[str, object]] | None) -> str:
    """Seconds and memory of the first round."""
    return f"{answers[0]['seconds']:.1f} s, {answers[0]['peak_mb']} MB" if answers else "–"


def report(results: dict[str, object]) -> str:
    """The results as Markdown."""
    rows = []
    for entry in results["flowers"]:  # type: ignore[attr-defined]
        ours = entry["ways"]["featx"]
        for way, answers in entry["ways"].items():
            ratio = "" if way == "featx" else f"{median(seconds(answers)) / median(seconds(ours)):.1f}"
            gap = "" if way == "featx" else f"{largest_gap(ours[0], answers[0]):.2f}"
            test = f"{answers[0]['test']:.4f}" if "test" in answers[0] else "–"
            rows.append([entry["data"], entry["head"], str(entry["threads"]), way, spread(seconds(answers), 2), ratio,
                         gap, f"{answers[0]['C']:g}", test, str(answers[0]["peak_mb"])])  # fmt: skip
    header = ["data", "head", "threads", "way", "seconds", "× featx", "CV gap, points", "C", "test", "peak MB"]
    grown = [
        [f"{entry['rows']:,} × {entry['columns']:,}",
         *(cost(entry["ways"].get(way)) for way in ("featx", "sklearn", "sklearn-once"))]
        for entry in results["growth"]  # type: ignore[attr-defined]
    ]  # fmt: skip
    exact = ", sklearn-exact with tol = 1e-8" * any(row[3] == "sklearn-exact" for row in rows)
    return "\n\n".join([
        described(results["machine"]),  # type: ignore[arg-type]
        "Four values of C × five folds and the refit of the winner, Flowers-17, 1,088 rows, 17 classes; medians and "
        f"ranges over rounds. sklearn is GridSearchCV with its own tolerances{exact}.",
        table(header, rows),
        "Growth: softmax, 10 classes, four values of C × five folds, made data, all cores.",
        table(["rows × columns", "featx", "GridSearchCV", "one fit of sklearn's"], grown),
        "![Seconds by way](benchmarks/heads.svg)",
    ])  # fmt: skip


def draw(results: dict[str, object], path: Path) -> None:
    """Seconds of each way, by head and columns, all cores."""
    most = max(entry["threads"] for entry in results["flowers"])  # type: ignore[attr-defined]
    entries = [entry for entry in results["flowers"] if entry["threads"] == most]  # type: ignore[attr-defined]
    figure, axes = make_figure("seconds, logarithmic", "")
    figure.set_size_inches(7, 4.5)
    for offset, way in enumerate(("featx", "sklearn", "intelex", "array-api")):
        known = [(n, median(seconds(e["ways"][way]))) for n, e in enumerate(entries) if way in e["ways"]]
        axes.barh([n + 0.2 * offset - 0.3 for n, _ in known], [value for _, value in known], 0.2, label=way)
    axes.set_yticks(range(len(entries)), [f"{entry['head']}\n{entry['data']}" for entry in entries])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, keep, draw and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="ways to leave out, intelex being slow here")
    parser.add_argument("--normalize", nargs="*", default=["power", "standard"])
    parser.add_argument("--threads", type=int, nargs="*", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--rows", type=int, nargs="*", default=[1000, 10_000, 100_000])
    results = measure(parser.parse_args())
    present("heads", results, report(results), draw)


if __name__ == "__main__":
    main()
