"""Compare the batched head search of featx with GridSearchCV, on the same rows, values of C and folds.

    python benchmarks/heads.py FLOWERS17 WORK [--rounds 3] [--rows 1000 10000 100000]

Each method runs in its own process, and the methods alternate. The features are the averages of blocks 3 to 5 (1,280
columns) and all values of block 5 (25,088), normalized before the search. Then synthetic data shows how time and memory
grow with rows and columns. scikit-learn-intelex is installed in ``.venv-peers``. Results go to
docs/benchmarks/heads.json and .svg and into docs/benchmarks.md.
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
from reporting import describe_machine, machine, present, say, spread, table
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
    """Write the normalized features of Flowers-17, split_0, with values of C and folds."""
    spec = ExtractSpec(blocks=blocks, pools=(pool,))
    kept = "flat224" if pool == "flat" else "default224"
    with Store(store_of(flowers, work, kept, spec if pool == "flat" else ExtractSpec())) as store:
        X, y = store.read(spec.widths), np.array(store.classes)[store.labels]
        train, test = store.rows_in_split("train", "split_0"), store.rows_in_split("test", "split_0")
    normalizer = StandardScaler() if normalize == "standard" else BlockNormalizer(tuple(spec.widths.values()))
    X = normalizer.fit(X[train]).transform(X).astype(np.float32)
    return write(work / f"heads-{name}.npz", X, y, train, test)


def synthetic_data(work: Path, rows: int, columns: int, classes: int = 10) -> Path:
    """Write synthetic classes that are Gaussian and overlap. Rows have unit norm, as normalized features have."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    centers = rng.standard_normal((classes, columns), np.float32) * (2.5 / np.sqrt(columns))
    X = centers[y] + rng.standard_normal((rows, columns), np.float32) / np.sqrt(columns) * 2
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    every = np.arange(rows)
    return write(work / f"heads-synthetic-{rows}-{columns}.npz", X, y, every, every[:100])


def write(path: Path, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> Path:
    """Write an .npz for the other processes. For each head, it has the first four values of C of the default grid."""
    folds = np.empty(len(train), int)
    for number, (_, rows) in enumerate(make_folds(y[train], None, 5, 1, 0)):
        folds[rows] = number
    grids = {f"Cs_{head}": np.array(default_grid(head, X[train[:2000]])[:4]) for head in HEADS}
    np.savez(path, X=X, y=y, train=train, test=test, folds=folds, **grids)
    return path


def run(method: str, data: Path, head: str, threads: int) -> dict[str, object] | None:
    """Run one method in its own process. Return None if the method does not run on this machine."""
    if not Path(PYTHONS[method]).exists():
        return None
    # Some machines restrict OpenBLAS to old kernels; each method uses the kernels of the processor.
    environment = {k: v for k, v in os.environ.items() if k not in {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}}
    command = [PYTHONS[method], str(SCRIPT), method, str(data), head, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        say(f"  {method} {head}: {(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}")
        return None
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    what = f"{data.stem} {head} {method}, {threads} threads"
    say(f"  {what}: {answer['seconds']:.2f} s, {answer['peak_mb']} MB, C={answer['C']:g}")
    return answer


def race(
    data: Path, head: str, methods: tuple[str, ...], threads: int, rounds: int
) -> dict[str, list[dict[str, object]]]:
    """Run all methods in alternation, and return the answers of each method."""
    answers: dict[str, list[dict[str, object]]] = {method: [] for method in methods}
    for method in [method for _ in range(rounds) for method in methods]:
        answer = run(method, data, head, threads)
        if answer:
            answers[method].append(answer)
    return {method: found for method, found in answers.items() if found}


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Measure Flowers-17 by head, columns and threads. Then measure how time grows with rows and columns."""
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
         "methods": race(data, head, methods_of(head, options.without), threads, options.rounds)}
        for name, data in sets.items() for head in HEADS for threads in options.threads
    ]  # fmt: skip
    sizes = [(rows, 1280) for rows in options.rows] + [(1000, 512), (1000, 25_088)]
    growth = [
        {"rows": rows, "columns": columns, "methods": race(synthetic_data(work, rows, columns), "softmax",
                                                        ("featx", "sklearn" if rows <= 10_000 else "sklearn-once"),
                                                        os.cpu_count() or 1, 1)}
        for rows, columns in sizes
    ]  # fmt: skip
    return {"machine": machine(), "flowers": flowers, "growth": growth}


def methods_of(head: str, without: list[str]) -> tuple[str, ...]:
    """Return the methods that can fit a head: LinearSVC has no array API and no patch in scikit-learn-intelex."""
    both = ("featx", "sklearn", "sklearn-exact")
    more = {"linear-svc": (), "softmax": ("intelex", "array-api"), "ovr-logistic": ("intelex",)}[head]
    return tuple(method for method in (*both, *more) if method not in without)


def seconds(answers: list[dict[str, object]]) -> list[float]:
    """Return the seconds of each round."""
    return [float(answer["seconds"]) for answer in answers]  # type: ignore[arg-type]


def largest_gap(ours: dict[str, object], theirs: dict[str, object]) -> float:
    """Return the largest difference between cross-validated means, in percentage points."""
    pairs = zip(ours["cv"].values(), theirs["cv"].values(), strict=True)  # type: ignore[attr-defined]
    return max(100 * abs(a - b) for a, b in pairs)


def cost(answers: list[dict[str, object]] | None) -> str:
    """Format the seconds and the peak memory of the first round."""
    return f"{answers[0]['seconds']:.1f} s, {answers[0]['peak_mb']} MB" if answers else "–"


def report(results: dict[str, object]) -> str:
    """Write the results as Markdown."""
    rows = []
    for entry in results["flowers"]:  # type: ignore[attr-defined]
        ours = entry["methods"]["featx"]
        for method, answers in entry["methods"].items():
            ratio = "" if method == "featx" else f"{median(seconds(answers)) / median(seconds(ours)):.1f}"
            gap = "" if method == "featx" else f"{largest_gap(ours[0], answers[0]):.2f}"
            test = f"{answers[0]['test']:.4f}" if "test" in answers[0] else "–"
            rows.append([entry["data"], entry["head"], str(entry["threads"]), method, spread(seconds(answers), 2),
                         ratio, gap, f"{answers[0]['C']:g}", test, str(answers[0]["peak_mb"])])  # fmt: skip
    header = ["data", "head", "threads", "method", "seconds", "× featx", "CV gap, points", "C", "test", "peak MB"]
    grown = [
        [f"{entry['rows']:,} × {entry['columns']:,}",
         *(cost(entry["methods"].get(method)) for method in ("featx", "sklearn", "sklearn-once"))]
        for entry in results["growth"]  # type: ignore[attr-defined]
    ]  # fmt: skip
    exact = ", sklearn-exact with tol = 1e-8" * any(row[3] == "sklearn-exact" for row in rows)
    return "\n\n".join([
        describe_machine(results["machine"]),  # type: ignore[arg-type]
        "Four values of C × five folds and the refit of the winner, Flowers-17, 1,088 rows, 17 classes; medians and "
        f"ranges over rounds. sklearn is GridSearchCV with its own tolerances{exact}.",
        table(header, rows),
        "Growth: softmax, 10 classes, four values of C × five folds, made data, all cores.",
        table(["rows × columns", "featx", "GridSearchCV", "one fit of scikit-learn"], grown),
        "![Seconds by method](benchmarks/heads.svg)",
    ])  # fmt: skip


def draw(results: dict[str, object], path: Path) -> None:
    """Draw the seconds of each method, by head and columns, on all cores."""
    most = max(entry["threads"] for entry in results["flowers"])  # type: ignore[attr-defined]
    entries = [entry for entry in results["flowers"] if entry["threads"] == most]  # type: ignore[attr-defined]
    figure, axes = make_figure("seconds, logarithmic", "")
    figure.set_size_inches(7, 4.5)
    for offset, method in enumerate(("featx", "sklearn", "intelex", "array-api")):
        known = [(n, median(seconds(e["methods"][method]))) for n, e in enumerate(entries) if method in e["methods"]]
        axes.barh([n + 0.2 * offset - 0.3 for n, _ in known], [value for _, value in known], 0.2, label=method)
    axes.set_yticks(range(len(entries)), [f"{entry['head']}\n{entry['data']}" for entry in entries])
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, save and publish the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of Flowers-17, with jpg/ and splits.csv")
    parser.add_argument("work", type=Path, help="folder for stores and data")
    parser.add_argument("--rounds", type=int, default=3, help="number of runs of each method")
    parser.add_argument("--without", nargs="*", default=[], help="methods to leave out, such as intelex")
    parser.add_argument("--normalize", nargs="*", default=["power", "standard"], help="normalizers")
    parser.add_argument(
        "--threads", type=int, nargs="*", default=sorted({1, os.cpu_count() or 1}), help="numbers of threads"
    )
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[1000, 10_000, 100_000], help="rows of the synthetic data"
    )
    results = measure(parser.parse_args())
    present("heads", results, report(results), draw)


if __name__ == "__main__":
    main()
