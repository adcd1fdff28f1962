"""Measure how much torch modules and exported ONNX files differ from featx, on photographs of Flowers-17.

    python benchmarks/export_check.py bridge FLOWERS17 WORK
    python benchmarks/export_check.py onnx FLOWERS17 WORK

FLOWERS17 contains ``jpg/``. ``onnx`` creates a virtual environment in WORK that has only onnxruntime and Pillow, and
runs each file there on 50 images of different sizes and modes. The exit code is 1 if a difference is too large.
"""

import itertools
import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from reporting import run_claim, say

from featx.backbones import load_backbone
from featx.engines import compute_reference_features, make_engine
from featx.exporting import export
from featx.extraction import extract
from featx.heads import HEADS, NORMALIZERS, make_head
from featx.images import decode, preprocess
from featx.models import FitOptions, Model, Validation, fit, predict, to_torch
from featx.spec import ExtractSpec

MOST = {"bridge": 1e-4, "onnx": 1e-3}
"""The largest allowed difference of logits (bridge) and of probabilities (onnx)."""
IMAGES = 50
FEATURES = {
    "block 5 avg": {"blocks": (5,), "pools": ("avg",)},
    "blocks 3-5 avg": {"blocks": (3, 4, 5), "pools": ("avg",)},
    "blocks 3-5 avg,max": {"blocks": (3, 4, 5), "pools": ("avg", "max")},
    "block 5 gem": {"blocks": (5,), "pools": ("gem",)},
    "block 5 flat": {"blocks": (5,), "pools": ("flat",)},
}
SPECS = {
    "blocks 3-5 avg, squash, bilinear": ExtractSpec(blocks=(3, 4, 5)),
    "block 5 max, crop, bicubic": ExtractSpec(blocks=(5,), pools=("max",), resize="crop", interpolation="bicubic"),
    "block 5 gem, pad, lanczos": ExtractSpec(blocks=(5,), pools=("gem",), resize="pad", interpolation="lanczos"),
}
SIZES = ((32, 32), (640, 120), (120, 640), (1600, 1200), (1200, 1600), (224, 224), (33, 500), (97, 64))
"""The widths and heights to which some images are resized. The other images keep their size."""
MODES = ("L", "CMYK", "P", "1")
CLEAN_RUN = """
import importlib.util, json, sys
import numpy as np, onnxruntime
from PIL import Image

assert not any(map(importlib.util.find_spec, ("featx", "torch", "sklearn", "onnx")))
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(output,) = session.get_outputs()
answers = {}
for path in sys.argv[2:]:
    image = np.asarray(Image.open(path).convert("RGB"))
    answers[path] = session.run(None, {"images": image[None]})[0][0].tolist()
classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
print(json.dumps({"output": output.name, "classes": classes, "answers": answers}))
"""


def photographs(flowers: Path) -> list[Path]:
    """Return fifty photographs from all classes."""
    paths = sorted((flowers / "jpg").rglob("*.jpg"))
    return paths[:: len(paths) // IMAGES][:IMAGES]


def bridge(flowers: Path, _work: Path) -> float:
    """Compare the logits of torch modules with ``decision_function`` at 224 px, in fp32."""
    whole = ExtractSpec(blocks=(3, 4, 5), pools=("avg", "max", "gem", "flat"))
    backbone, paths = load_backbone(), photographs(flowers)
    engine = make_engine(backbone, whole, "cpu")
    images = np.stack([preprocess(decode(path.read_bytes()).image, whole) for path in paths])
    rows, references = engine(images), compute_reference_features(engine)
    names = np.array([f"class {number // 10}" for number in range(len(paths))])
    pixels, worst = torch.from_numpy(images).permute(0, 3, 1, 2), 0.0
    pooled: dict[str, torch.Tensor] = {}
    for (title, chosen), normalize in itertools.product(FEATURES.items(), NORMALIZERS):
        spec = whole.select(**chosen).with_backbone(backbone.name, backbone.digest, backbone.preprocessing)  # type: ignore[arg-type]
        X = np.hstack([rows[name] for name in spec.widths])
        for head in HEADS:
            C = 1e-7 if normalize == "none" else 1.0  # raw features are in the thousands
            estimator = make_head(head, C, normalize=normalize, widths=tuple(spec.widths.values())).fit(X, names)
            kept = {name: references[name] for name in spec.widths}
            model = Model(spec, tuple(map(str, estimator.classes_)), head, estimator, kept, {})
            module = to_torch(model, backbone)
            with torch.inference_mode():
                if title not in pooled:  # all heads on the same features have the same backbone
                    pooled[title] = module.features(pixels)
                logits = module.classify(pooled[title]).numpy()
            difference = float(np.abs(logits - model.decision_function(X)).max())
            say(f"bridge, {title}, {normalize}, {head}: largest logit difference {difference:.1e}")
            worst = max(worst, difference)
    return worst


def draw(flowers: Path, folder: Path) -> list[Path]:
    """Write 50 images of different sizes and modes."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, path in enumerate(photographs(flowers)):
        image = Image.open(path)
        if number % 2:
            image = image.resize(SIZES[number // 2 % len(SIZES)])
        if number % 3 == 0:
            image = image.convert(MODES[number // 3 % len(MODES)])
        written.append(folder / f"{number:02}_{image.mode}_{image.width}x{image.height}.tiff")
        image.save(written[-1])
    return written


def make_environment(folder: Path) -> Path:
    """Create a virtual environment that has only onnxruntime and Pillow, and return its Python interpreter."""
    interpreter = folder / "bin" / "python"
    if not interpreter.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", "onnxruntime", "pillow"], check=True)
    return interpreter


def onnx(flowers: Path, work: Path) -> float:
    """Compare probabilities of exported files, in a clean environment, with ``featx predict`` on the same images."""
    interpreter, images = make_environment(work / "clean"), draw(flowers, work / "images")
    shapes = {path.stem.split("_", 1)[1] for path in images}
    say(f"{len(images)} images, {len(shapes)} kinds of mode and size: {', '.join(sorted(shapes)[:6])} …")
    training, worst = sorted((flowers / "jpg").rglob("*.jpg"))[::8], 0.0
    manifest = work / "training.csv"
    lines = [f"{path.relative_to(flowers / 'jpg')},{path.parent.name}" for path in training]
    manifest.write_text("\n".join(["path,label", *lines]))
    for number, (title, spec) in enumerate(SPECS.items()):
        store = work / f"training{number}.h5"
        extract(manifest, store, spec, root=flowers / "jpg")
        for head in HEADS:
            # LinearSVC has probabilities only if it is calibrated.
            model = fit(
                store,
                head=head,
                blocks=spec.blocks,
                C=1.0,
                options=FitOptions(calibrate=head == "linear-svc"),
                validation=Validation(folds=3),
            )
            worst = max(worst, _against_predict(model, f"{title}, {head}", interpreter, images, work / "model.onnx"))
    return worst


def _against_predict(model: Model, title: str, interpreter: Path, images: list[Path], path: Path) -> float:
    exported = export(model, path, overwrite=True)
    command = [str(interpreter), "-I", "-c", CLEAN_RUN, str(path), *map(str, images)]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    differences = []
    for found in predict(model, images, top=len(model.classes)):
        ours = dict(zip(found.classes, found.probabilities or found.decisions, strict=True))
        theirs = dict(zip(said["classes"], said["answers"][found.path], strict=True))
        differences.append(max(abs(ours[name] - theirs[name]) for name in ours))
    say(
        f"onnx, {title}: largest difference of {said['output']} {max(differences):.1e} on {len(differences)} images; "
        f"{exported.difference:.1e} when exported, {exported.bytes / 1e6:.1f} MB"
    )
    return max(differences)


CHECKS = {"bridge": bridge, "onnx": onnx}

if __name__ == "__main__":
    found_worst = run_claim(CHECKS)
    say(f"largest difference: {found_worst:.1e}, allowed {MOST[sys.argv[1]]:.0e}")
    sys.exit(not found_worst <= MOST[sys.argv[1]])
