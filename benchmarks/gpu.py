"""Measure the speed of feature extraction on a GPU, and compare it with torchvision and with a matrix product.

    python benchmarks/gpu.py FLOWERS17 WORK [--files 4080]

The script measures first the backbone alone, on images in GPU memory, and then all steps from JPEG files to a closed
store. Results go to docs/benchmarks/gpu.json and .svg and into docs/benchmarks.md.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import torch
from PIL import Image
from reporting import describe_machine, machine, present, say, spread, table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from featx.backbones import backbone_flops, load_backbone
from featx.drawing import make_figure
from featx.engines.cuda import GraphedFunction
from featx.engines.torch_engine import TorchEngine
from featx.extraction import extract
from featx.runtime import Compute
from featx.spec import ExtractSpec

SIZE, BATCH, SIDE = 224, 128, 8192
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CUDA = torch.device("cuda")


def seconds_of(function: Callable[[], object], rounds: int = 10) -> list[float]:
    """Return the seconds that a function takes by the clock of the GPU, after three runs that are not timed."""
    taken = []
    for number in range(rounds + 3):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        function()
        ended.record()
        torch.cuda.synchronize()
        if number >= 3:
            taken.append(began.elapsed_time(ended) / 1000)
    return taken


def matmul_flops(dtype: torch.dtype) -> float:
    """Measure the floating-point operations per second of a large matrix product on random data."""
    left, right = (torch.randn(SIDE, SIDE, device=CUDA, dtype=dtype) for _ in range(2))
    return 2 * SIDE**3 / median(seconds_of(lambda: left @ right))


def torchvision_backbone(dtype: torch.dtype) -> Callable[[Tensor], dict[str, Tensor]]:
    """Make VGG16 of torchvision as a careful user would: channels_last, and TF32 where torch chooses it."""
    from torchvision.models import vgg16
    from torchvision.models.feature_extraction import create_feature_extractor

    nodes = {f"features.{layer}": f"block{number}" for number, layer in enumerate((4, 9, 16, 23, 30), start=1)}
    extractor = create_feature_extractor(vgg16(weights=None).eval(), nodes)
    extractor = extractor.to(CUDA, dtype).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v, device=CUDA).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    @torch.inference_mode()
    def run(pixels: Tensor) -> dict[str, Tensor]:
        x = ((pixels.permute(0, 3, 1, 2) / 255 - mean) / std).to(dtype)
        return {name: values.mean((2, 3), dtype=torch.float32) for name, values in extractor(x).items()}

    return run


class Photos(Dataset):  # type: ignore[type-arg]
    """Photographs as uint8 tensors (224, 224, 3)."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.paths[index]).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image))


def time_torchvision(paths: list[Path], output: Path, workers: int) -> float:
    """Time torchvision from JPEG files to an HDF5 file, in bfloat16, with a DataLoader that has worker processes."""
    run, batches = torchvision_backbone(torch.bfloat16), []
    began = time.perf_counter()
    for pixels in DataLoader(Photos(paths), BATCH, num_workers=workers, pin_memory=True):
        found = run(pixels.to(CUDA, non_blocking=True))
        batches.append({name: values.cpu().numpy() for name, values in found.items()})
    with h5py.File(output, "w") as file:
        for name in batches[0]:
            file[name] = np.concatenate([batch[name] for batch in batches])
    return time.perf_counter() - began


def make_links(photos: list[Path], folder: Path, count: int) -> list[Path]:
    """Make ``count`` links to the photographs, because a source lists each path once."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            path.symlink_to(photos[number % len(photos)])
    return paths


def measure_backbone(peaks: dict[str, float]) -> list[dict[str, object]]:
    """Measure the images per second of the backbone, on images in GPU memory and in host memory."""
    weights, flops, rows = load_backbone("oxford"), backbone_flops(SIZE)[5], []
    host = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8)
    pixels = torch.from_numpy(host).to(CUDA)
    for precision, dtype in DTYPES.items():
        for name in ("torchvision", "featx"):
            torch.cuda.reset_peak_memory_stats()
            row: dict[str, object] = {"name": name, "precision": precision}
            if name == "torchvision":
                function = torchvision_backbone(dtype)
                taken = seconds_of(lambda run=function: run(pixels))  # type: ignore[misc]
            else:
                engine = TorchEngine(weights, ExtractSpec(size=SIZE, precision=precision), "cuda", BATCH)
                with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                    replayed = GraphedFunction(engine._features, pixels)
                    taken = seconds_of(lambda run=replayed: run(pixels))  # type: ignore[misc]
                engine(host)
                began = time.perf_counter()
                for _ in range(8):
                    engine(host)
                row["host"] = 8 * BATCH / (time.perf_counter() - began)
            row["rates"] = [BATCH / seconds for seconds in taken]
            row["share"] = BATCH / median(taken) * flops / peaks["tf32" if (name, precision) == ("torchvision", "fp32")
                                                               else precision]  # fmt: skip
            row["peak_mb"] = torch.cuda.max_memory_allocated() / 2**20
            rows.append(row)
            rate, share = BATCH / median(taken), row["share"]
            say(f"backbone {name} {precision}: {rate:.0f} images/s, {share:.0%} of the matrix product")
    return rows


def measure_files_to_store(photos: list[Path], work: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """Measure the images per second from JPEG files to a closed store."""
    paths, rows = make_links(photos, work / "links", options.files), []
    compute = Compute(device="cuda", workers=options.workers)
    extract(paths[:BATCH], work / "warm.h5", ExtractSpec(precision="bf16"), compute, overwrite=True)
    for decode in ("full", "scaled"):
        for precision in ("fp32", "bf16"):
            spec = ExtractSpec(precision=precision, decode=decode)
            report = extract(paths, work / "files.h5", spec, compute, overwrite=True)
            bottleneck = report.advice.split(":")[0].removeprefix("the bottleneck is ")
            name = f"featx {precision}" + ("" if decode == "full" else f", --decode {decode}")
            rows.append({"name": name, "rate": len(paths) / report.seconds, "stages": report.rates,
                         "bottleneck": bottleneck})  # fmt: skip
            say(f"files to store, {name}: {rows[-1]['rate']:.0f} images/s, bottleneck: {bottleneck}")
    seconds = time_torchvision(paths, work / "peer.h5", options.workers)
    rows.append({"name": "torchvision bf16, DataLoader", "rate": len(paths) / seconds, "stages": {}, "bottleneck": ""})
    say(f"files to store, torchvision: {rows[-1]['rate']:.0f} images/s")
    return rows


def report(results: dict[str, object]) -> str:
    """Write the results as Markdown."""
    peaks: dict[str, float] = results["matmul_flops"]  # type: ignore[assignment]
    backbone: list[dict[str, object]] = results["backbone"]  # type: ignore[assignment]
    runs: list[dict[str, object]] = results["store"]  # type: ignore[assignment]
    products = ", ".join(f"{name} {rate / 1e12:.0f}" for name, rate in peaks.items())
    cells = [
        [f"{row['name']} {row['precision']}", spread(row["rates"], 0), f"{row['share']:.0%}",  # type: ignore[arg-type]
         f"{row['host']:.0f}" if "host" in row else "–", f"{row['peak_mb']:.0f}"]
        for row in backbone
    ]  # fmt: skip
    stages = [
        [row["name"], f"{row['rate']:.0f}",
         ", ".join(f"{name} {rate:.0f}" for name, rate in row["stages"].items()) or "–",  # type: ignore[attr-defined]
         str(row["bottleneck"]) or "–"]
        for row in runs
    ]  # fmt: skip
    return "\n\n".join([
        f"{results['gpu']}; {describe_machine(results['machine'])}",  # type: ignore[arg-type]
        f"Matrix product of {SIDE} × {SIDE} in the same run, TFLOP/s: {products}. Backbone: five blocks at {SIZE} px, "
        f"batches of {BATCH} in GPU memory, medians of ten; torchvision's fp32 is TF32, featx's is float32.",
        table(["backbone", "images/s", "of the matrix product", "from host memory", "peak MB"], cells),
        f"Files to store, {results['photographs']} JPEG files, {results['workers']} threads:",
        table(["", "images/s", "each stage alone", "bottleneck"], stages),  # type: ignore[arg-type]
        "![Images per second of the backbone](benchmarks/gpu.svg)",
    ])  # fmt: skip


def draw(results: dict[str, object], path: Path) -> None:
    """Draw the images per second as bars."""
    backbone: list[dict[str, object]] = results["backbone"]  # type: ignore[assignment]
    figure, axes = make_figure("images/s at 224 px, backbone only", "")
    figure.set_size_inches(7, 3.5)
    bars = axes.barh(
        [f"{row['name']} {row['precision']}" for row in backbone], [median(row["rates"]) for row in backbone]
    )  # type: ignore[type-var]
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.invert_yaxis()
    figure.savefig(path)


def main() -> None:
    """Measure, save and publish the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("flowers", type=Path, help="folder of the photographs of Flowers-17")
    parser.add_argument("work", type=Path, help="folder for stores and links")
    parser.add_argument("--files", type=int, default=4080, help="JPEG files per run from files to a store")
    parser.add_argument("--workers", type=int, default=torch.get_num_threads(), help="workers that decode images")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    photos = sorted(options.flowers.resolve().rglob("*.jpg"))
    peaks = {name: matmul_flops(dtype) for name, dtype in DTYPES.items()}
    torch.backends.cuda.matmul.allow_tf32 = True
    peaks["tf32"] = matmul_flops(torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = False
    say(", ".join(f"{name} {rate / 1e12:.0f} TFLOP/s" for name, rate in peaks.items()))
    results: dict[str, object] = {
        "machine": machine(), "gpu": torch.cuda.get_device_name(), "matmul_flops": peaks,
        "photographs": options.files, "workers": options.workers, "backbone": measure_backbone(peaks),
        "store": measure_files_to_store(photos, options.work.resolve(), options),
    }  # fmt: skip
    present("gpu", results, report(results), draw)


if __name__ == "__main__":
    main()
