"""Extraction against its peers, on the same photographs in one run, in alternation.

    python benchmarks/extract.py FLOWERS17 WORK [--whole 1360] [--rounds 3]

Each contender is a process of its own (benchmarks/contenders/), which holds its model ready and is asked in turn: first
for the backbone alone on images in memory, then for the whole way from JPEG files to a closed HDF5 file. Keras runs in
``.venv-peers``, thingsvision, which asks for torch 2.0, in ``.venv-thingsvision``, where these are. Results go to
docs/benchmarks/SECTION.json and .svg and into docs/benchmarks.md.
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
from reporting import described, machine, present, say, spread, table

from featx.backbones import backbone_flops
from featx.drawing import make_figure

ROOT = Path(__file__).parents[1]
CONTENDERS = Path(__file__).parent / "contenders"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
THINGSVISION_PYTHON = ROOT / ".venv-thingsvision" / "bin" / "python"
PRECISIONS = ("fp32", "bf16", "int8")


class Contender:
    """One process that answers orders."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: dict[str, list[dict[str, float]]] = {"backbone": [], "whole": []}

    def run(self, what: str, images: int) -> None:
        """Order, and keep the answer with its rate."""
        answer = json.loads(self._order(what, images))
        answer["rate"] = images / answer["seconds"]
        self.answers[what].append(answer)
        say(f"  {what} {self.name}: {answer['rate']:.2f} images/s, {answer['peak_mb']} MB")

    def works(self) -> bool:
        """Whether it gets ready here; if not, its last words have said why."""
        return bool(self._order("backbone", 1))

    def _order(self, what: str, images: int) -> str:
        """The answer's line; empty if the process has ended."""
        try:
            self.process.stdin.write(json.dumps({"what": what, "images": images}) + "\n")  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]
        except BrokenPipeError:
            return ""
        line: str = self.process.stdout.readline()  # type: ignore[union-attr]
        return line

    def rates(self, what: str) -> list[float]:
        """Images a second of each round."""
        return [answer["rate"] for answer in self.answers[what]]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def start(listing: Path, work: Path, precisions: list[str]) -> list[Contender]:
    """The contenders that can run here."""
    places = [str(listing), str(work)]
    torchvision = [sys.executable, str(CONTENDERS / "torchvision_eager.py"), *places]
    found = [Contender("torchvision eager", torchvision)]
    if PEERS_PYTHON.exists():
        found.append(Contender("Keras", [str(PEERS_PYTHON), str(CONTENDERS / "keras_vgg16.py"), *places]))
    else:
        say("no .venv-peers: without Keras (make bench-extract makes it)")
    if THINGSVISION_PYTHON.exists():
        script = CONTENDERS / "thingsvision_vgg16.py"
        found.append(Contender("thingsvision", [str(THINGSVISION_PYTHON), str(script), *places]))
    else:
        say("no .venv-thingsvision: without thingsvision (make .venv-thingsvision/ready makes it, 6 GB)")
    for contender in [featx(precision, "1,2,3,4,5", places) for precision in precisions]:
        if contender.works():
            found.append(contender)
        else:
            say(f"without {contender.name}, which this machine has not")
    return found


def featx(precision: str, blocks: str, places: list[str]) -> Contender:
    """featx at a precision, with some blocks."""
    command = [sys.executable, str(CONTENDERS / "featx_extract.py"), *places, precision, blocks, "cpu"]
    return Contender(f"featx {precision}" + ("" if "," in blocks else f", up to block {blocks}"), command)


def matmul_peak(precision: str, side: int = 2048) -> float:
    """Operations a second of a large matrix product in OpenVINO, the median of several."""
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
    """All contenders, round by round; then featx by depth."""
    work.mkdir(parents=True, exist_ok=True)
    listing = work / "photos.txt"
    listing.write_text("\n".join(map(str, photos)))
    peaks = {precision: matmul_peak(precision) for precision in {"fp32", *options.precisions}}
    contenders = start(listing, work, options.precisions)
    say(f"backbone only, {options.backbone} images, {options.rounds} rounds")
    for contender in [c for _ in range(options.rounds) for c in contenders]:
        contender.run("backbone", options.backbone)
    say(f"whole way, {options.whole} photographs, {options.whole_rounds} rounds")
    for contender in [c for _ in range(options.whole_rounds) for c in contenders]:
        contender.run("whole", options.whole)
    for contender in contenders:
        contender.close()
    depths = [featx("fp32", str(depth), [str(listing), str(work)]) for depth in (1, 2, 3, 4, 5)]
    for contender in [c for _ in range(options.rounds) for c in depths]:
        contender.run("backbone", options.backbone)
    for contender in depths:
        contender.close()
    return {
        "machine": machine(),
        "photographs": options.whole,
        "backbone_images": options.backbone,
        "matmul_flops": peaks,
        "contenders": {c.name: c.answers for c in contenders},
        "depths": {depth: c.rates("backbone") for depth, c in enumerate(depths, start=1)},
    }


def ratios(contenders: dict[str, dict[str, list[dict[str, float]]]], what: str, name: str, peer: str) -> str:
    """How many times as fast as a peer, round against round."""
    if peer not in contenders:
        return "–"
    pairs = zip(contenders[name][what], contenders[peer][what], strict=True)
    return spread([ours["rate"] / theirs["rate"] for ours, theirs in pairs], 2)


def report(results: dict[str, object], section: str) -> str:
    """The results as Markdown."""
    contenders: dict[str, dict[str, list[dict[str, float]]]] = results["contenders"]  # type: ignore[assignment]
    peaks: dict[str, float] = results["matmul_flops"]  # type: ignore[assignment]
    flops, rows = backbone_flops(224)[5], []
    for name, answers in contenders.items():
        precision = name.split()[-1] if name.startswith("featx") else "fp32"
        backbone = [answer["rate"] for answer in answers["backbone"]]
        share = median(backbone) * flops / peaks[precision]
        peak_mb = max(answer["peak_mb"] for answer in answers["whole"])
        whole = [answer["rate"] for answer in answers["whole"]]
        rows.append([
            name, spread(backbone), f"{share:.0%}", spread(whole), f"{median(whole) / median(backbone):.0%}",
            ratios(contenders, "whole", name, "torchvision eager"), ratios(contenders, "whole", name, "Keras"),
            f"{peak_mb:.0f}",
        ])  # fmt: skip
    depths: dict[int, list[float]] = results["depths"]  # type: ignore[assignment]
    full, by_depth = median(depths[5]), backbone_flops(224)
    deep = [
        [str(depth), spread(rates), f"{full / median(rates):.1%}", f"{by_depth[depth] / flops:.1%}"]
        for depth, rates in depths.items()
    ]
    header = ["", "backbone, images/s", "of matmul peak", "whole way, images/s", "whole / backbone", "× torchvision",
              "× Keras", "peak MB"]  # fmt: skip
    return "\n\n".join([
        described(results["machine"]),  # type: ignore[arg-type]
        f"224 px; backbone: {results['backbone_images']} images in memory; whole way: {results['photographs']} photographs "
        "of Flowers-17, from JPEG files to a closed store. Medians, and ranges over rounds; ratios of the whole way.",
        table(header, rows),
        "Cost by depth (fp32, backbone only):",
        table(["up to block", "images/s", "time of all five", "arithmetic of all five"], deep),
        f"![Images a second, whole way](benchmarks/{section}.svg)",
    ])  # fmt: skip


def draw(results: dict[str, object], path: Path) -> None:
    """Bars of images a second."""
    contenders: dict[str, dict[str, list[dict[str, float]]]] = results["contenders"]  # type: ignore[assignment]
    names = list(contenders)
    figure, axes = make_figure("images/s at 224 px", "")
    figure.set_size_inches(7, 0.5 * len(names) + 1)
    for offset, what, color in ((-0.2, "backbone", "#9db7d5"), (0.2, "whole", "#2f5d8a")):
        values = [median(answer["rate"] for answer in contenders[name][what]) for name in names]
        label = {"backbone": "backbone only", "whole": "whole way"}[what]
        bars = axes.barh(np.arange(len(names)) + offset, values, 0.4, label=label, color=color)
        axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure, keep, draw and publish."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--whole", type=int, default=1360, help="photographs of the whole way")
    parser.add_argument("--whole-rounds", type=int, default=1)
    parser.add_argument("--backbone", type=int, default=64, help="images of the backbone alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--section", default="extract", help="of docs/benchmarks.md: one for each kind of machine")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS,
                        help="featx's; without int8 where the processor has no VNNI")  # fmt: skip
    options = parser.parse_args()
    photos = sorted(options.flowers.resolve().rglob("*.jpg"))
    results = measure(photos, options.work.resolve(), options)
    present(options.section, results, report(results, options.section), draw)


if __name__ == "__main__":
    main()
