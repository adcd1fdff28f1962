"""The gallery's pictures, drawn anew by every build from what scikit-learn brings along.

Each takes the file to write. A new one needs its name in ``PICTURES`` and a paragraph in ``gallery.md``.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from featx.extraction.to_store import extract
from featx.inspection.augmentation_preview import preview
from featx.inspection.depth_probe import draw_probe, probe
from featx.inspection.explanation.drawing import draw_explanation
from featx.inspection.explanation.explainer import explain
from featx.models.fitting import fit
from featx.spec.extract_spec import ExtractSpec

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from digits_early_blocks import write_digits

PHOTOS = ("china.jpg", "flower.jpg")


def views(path: Path) -> None:
    """A contact sheet of augmented views."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "flower.png"
        Image.fromarray(load_sample_image("flower.jpg")).save(photo)
        spec = ExtractSpec(size=160, n_views=12, augment="flip,rotate=30,scale=0.8:1.2,crop,translate=0.1,color")
        preview(photo, spec).save(path)


def depth(path: Path) -> None:
    """Accuracy against cost of every depth, for handwritten digits."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder / "digits", 200)
        extract(folder / "digits", folder / "digits.h5", ExtractSpec(size=32))
        draw_probe(probe(folder / "digits.h5", folds=3, timed=False), path)


def activation(path: Path) -> None:
    """Where a model that knows crops of two photographs sees each of them in a picture of both."""
    rng, photos = np.random.default_rng(0), [load_sample_image(name) for name in PHOTOS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for photo, file in zip(photos, PHOTOS, strict=True):
            (folder / "crops" / Path(file).stem).mkdir(parents=True)
            for number in range(16):
                top, left = rng.integers(0, np.array(photo.shape[:2]) - 200)
                crop = Image.fromarray(photo[top : top + 200, left : left + 200])
                crop.save(folder / "crops" / Path(file).stem / f"{number}.png")
        both = Image.fromarray(np.hstack([photo[:, 140:440] for photo in photos]))
        both.save(folder / "both.png")
        extract(folder / "crops", folder / "crops.h5", ExtractSpec(size=128, blocks=(4, 5)))
        model = fit(folder / "crops.h5", head="softmax", C=1e-3, blocks=(4, 5), normalize="standard", folds=2)
        draw_explanation(explain(model, folder / "both.png"), path)


PICTURES: dict[str, Callable[[Path], None]] = {"views.png": views, "depth.png": depth, "activation.png": activation}
