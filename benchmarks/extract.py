"""Compare the speed of feature extraction in featx and in other libraries, on the photographs of Flowers-17.

    python benchmarks/extract.py FLOWERS17 WORK [--files 1360] [--rounds 3]

Each library runs in its own process (benchmarks/contenders/), which loads its model once. The libraries are measured in
alternation: first the backbone alone, on images in memory, then all steps from JPEG files to a closed HDF5 file.
Keras runs in ``.venv-peers``, and thingsvision, which needs torch 2.0, in ``.venv-thingsvision``, if these exist.
Results go to docs/benchmarks/SECTION.json and .svg and into docs/benchmarks.md.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import openvino as ov
import openvino.opset13 as ops
from reporting import describe_machine, machine, present, say, spread, table

from featx.backbones import backbone_flops
from featx.drawing import make_figure

ROOT = Path(__file__).parents[1]
CONTENDERS = Path(__file__).parent / "contenders"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
THINGSVISION_PYTHON = ROOT / ".venv-thingsvision" / "bin" / "python"
PRECISIONS = ("fp32", "bf16", "int8")


class Contender:
    """The process of one library. It measures the library on request."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: dict[str, list[dict[str, float]]] = {"backbone": [], "store": []}

    def run(self, what: str, images: int) -> None:
        """Measure once, and keep the answer together with its rate in images per second."""
        answer = json.loads(self._request(what, images))
        answer["rate"] = images / answer["seconds"]
        self.answers[what].append(answer)
        say(f"  {what} {self.name}: {answer['rate']:.2f} images/s, {answer['peak_mb']} MB")

    def works(self) -> bool:
        """Return whether the library runs on this machine; if not, the process has printed the reason."""
        return bool(self._request("backbone", 1))

    def _request(self, what: str, images: int) -> str:
        """Return the line that the process answers with; it is empty if the process has ended."""
        try:
            self.process.stdin.write(json.dumps({"what": what, "images": images}) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            return ""
        line: str = self.process.stdout.readline()  # type: ignore[union-attr]
        return line

    def rates(self, what: str) -> list[float]:
        """Return the images per second of each round."""
        return [answer["rate"] for answer in self.answers[what]]

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def start_contenders(listing: Path, work: Path, precisions: list[str]) -> list[Contender]:
    """Start the libraries that are installed and run on this machine."""
    places = [str(listing), str(work)]
    torchvision = [sys.executable, str(CONTENDERS / "torchvision_eager.py"), *places]
    found = [Contender("torchvision eager", torchvision)]
    if PEERS_PYTHON.exists():
        found.append(Contender("Keras", [str(PEERS_PYTHON), str(CONTENDERS / "keras_vgg16.py"), *places]))
    else:
        say("Keras is not measured: there is no .venv-peers; make bench-extract creates it")
    if THINGSVISION_PYTHON.exists():
        script = CONTENDERS / "thingsvision_vgg16.py"
        found.append(Contender("thingsvision", [str(THINGSVISION_PYTHON), str(script), *places]))
    else:
        say(
            "thingsvision is not measured: there is no .venv-thingsvision; "
            "make .venv-thingsvision/ready creates it (6 GB)"
        )
    for contender in [start_featx(precision, "1,2,3,4,5", places) for precision in precisions]:
        if contender.works():
            found.append(contender)
        else:
            say(f"{contender.name} is not measured: this machine cannot run it")
    return found


def start_featx(precision: str, blocks: str, places: list[str]) -> Contender:
    """Start the process of featx with a precision and some blocks."""
    command = [sys.executable, str(CONTENDERS / "featx_extract.py"), *places, precision, blocks, "cpu"]
    return Contender(f"featx {precision}" + ("" if "," in blocks else f", up to block {blocks}"), command)


def matmul_peak(precision: str, side: int = 2048) -> float:
    """Measure the operations per second of a large matrix product in OpenVINO, as the median of ten runs."""
    x = ops.parameter([side, side], ov.Type.f32)
    left, right = x.output(0), ops.constant(np.random.default_rng(0).standard_normal((side, side), np.float32))
    if precision == "int8":
        ends = np.float32(-4), np.float32(4 * 127 / 128)
        left = ops.fake_quantize(left, *ends, *ends, 256).output(0)
        wide = np.float32(-4), np.float32(4)
        right = ops.fake_quantize(right, *wide, *wide, 255)
    model = ov.Model([ops.matmul(left, right, False, False)], [x])
    hint = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[precision]
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    data, seconds = np.random.default_rng(1).standard_normal((side, side), np.float32), []
    for _ in range(12):
        began = time.perf_counter()
        compiled(data)
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / median(seconds[2:])


def measure(photos: list[Path], work: Path, options: argparse.Namespace) -> dict[str, object]:
    """Measure all libraries, round by round, and then featx up to each block."""
    work.mkdir(parents=True, exist_ok=True)
    listing = work / "photos.txt"
    listing.write_text("\n".join(map(str, photos)))
    peaks = {precision: matmul_peak(precision) for precision in {"fp32", *options.precisions}}
    contenders = start_contenders(listing, work, options.precisions)
    say(f"backbone only: {options.backbone_images} images, {options.rounds} rounds")
    for contender in [c for _ in range(options.rounds) for c in contenders]:
        contender.run("backbone", options.backbone_images)
    say(f"files to store: {options.files} JPEG files, {options.file_rounds} rounds")
    for contender in [c for _ in range(options.file_rounds) for c in contenders]:
        contender.run("store", options.files)
    for contender in contenders:
        contender.close()
    depths = [start_featx("fp32", str(depth), [str(listing), str(work)]) for depth in (1, 2, 3, 4, 5)]
    for contender in [c for _ in range(options.rounds) for c in depths]:
        contender.run("backbone", options.backbone_images)
    for contender in depths:
        contender.close()
    return {
        "machine": machine(),
        "photographs": options.files,
        "backbone_images": options.backbone_images,
        "matmul_flops": peaks,
        "contenders": {c.name: c.answers for c in contenders},
        "depths": {depth: c.rates("backbone") for depth, c in enumerate(depths, start=1)},
    }


def ratios(contenders: dict[str, dict[str, list[dict[str, float]]]], what: str, name: str, peer: str) -> str:
    """Format the rate of a library divided by that of another one, as the median and the range over rounds."""
    if peer not in contenders:
        return "–"
    pairs = zip(contenders[name][what], contenders[peer][what], strict=True)
    return spread([ours["rate"] / theirs["rate"] for ours, theirs in pairs], 2)


def report(results: dict[str, object], section: str) -> str:
    """Write the results as Markdown."""
    contenders: dict[str, dict[str, list[dict[str, float]]]] = results["contenders"]  # type: ignore[assignment]
    peaks: dict[str, float] = results["matmul_flops"]  # type: ignore[assignment]
    flops, rows = backbone_flops(224)[5], []
    for name, answers in contenders.items():
        precision = name.split()[-1] if name.startswith("featx") else "fp32"
        backbone = [answer["rate"] for answer in answers["backbone"]]
        share = median(backbone) * flops / peaks[precision]
        peak_mb = max(answer["peak_mb"] for answer in answers["store"])
        store = [answer["rate"] for answer in answers["store"]]
        rows.append([
            name, spread(backbone), f"{share:.0%}", spread(store), f"{median(store) / median(backbone):.0%}",
            ratios(contenders, "store", name, "torchvision eager"), ratios(contenders, "store", name, "Keras"),
            f"{peak_mb:.0f}",
        ])  # fmt: skip
    depths = {int(depth): rates for depth, rates in results["depths"].items()}  # type: ignore[attr-defined]
    full, by_depth = median(depths[5]), backbone_flops(224)
    deep = [
        [str(depth), spread(rates), f"{full / median(rates):.1%}", f"{by_depth[depth] / flops:.1%}"]
        for depth, rates in depths.items()
    ]
    header = ["", "backbone, images/s", "of matmul peak", "files to store, images/s", "store / backbone",
              "× torchvision", "× Keras", "peak MB"]  # fmt: skip
    return "\n\n".join([
        describe_machine(results["machine"]),  # type: ignore[arg-type]
        f"224 px; backbone: {results['backbone_images']} images in memory; files to store: {results['photographs']} "
        "JPEG files of Flowers-17. Medians, and ranges over rounds; ratios for files to store.",
        table(header, rows),
        "Cost by depth (fp32, backbone only):",
        table(["up to block", "images/s", "time of all five", "arithmetic of all five"], deep),
        f"![Images per second, from files to a store](benchmarks/{section}.svg)",
    ])  # fmt: skip


def draw(results: dict[str, object], path: Path) -> None:
    """Draw the images per second as bars."""
    contenders: dict[str, dict[str, list[dict[str, float]]]] = results["contenders"]  # type: ignore[assignment]
    names = list(contenders)
    figure, axes = make_figure("images/s at 224 px", "")
    figure.set_size_inches(7, 0.5 * len(names) + 1)
    for offset, what, color in ((-0.2, "backbone", "#9db7d5"), (0.2, "store", "#2f5d8a")):
        values = [median(answer["rate"] for answer in contenders[name][what]) for name in names]
        label = {"backbone": "backbone only", "store": "files to store"}[what]
        bars = axes.barh(np.arange(len(names)) + offset, values, 0.4, label=label, color=color)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, save and publish the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of the photographs of Flowers-17")
    parser.add_argument("work", type=Path, help="folder for stores")
    parser.add_argument("--files", type=int, default=1360, help="JPEG files per run from files to a store")
    parser.add_argument("--file-rounds", type=int, default=1, help="number of runs from files to a store")
    parser.add_argument("--backbone-images", type=int, default=64, help="images per run of the backbone alone")
    parser.add_argument("--rounds", type=int, default=3, help="number of runs of the backbone alone")
    parser.add_argument("--section", default="extract", help="section of docs/benchmarks.md to replace")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS,
                        help="precisions of featx; leave out int8 if the processor has no VNNI")  # fmt: skip
    options = parser.parse_args()
    photos = sorted(options.flowers.resolve().rglob("*.jpg"))
    results = measure(photos, options.work.resolve(), options)
    present(options.section, results, report(results, options.section), draw)


if __name__ == "__main__":
    main()
