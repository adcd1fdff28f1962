"""Classify the handwritten digits of scikit-learn, from images to predictions (``make demo``).

    python examples/digits_early_blocks.py FOLDER [--size 64] [--images 1797]

Digits do not look like the photographs of ImageNet, so an early block is the best. The program prints a table with the
accuracy of each block.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

import featx

HEADS = ("linear-svc", "softmax", "ovr-logistic")


def write_digits(folder: Path, count: int) -> None:
    """Write the first of the 1,797 digits as PNG files of 8 × 8 pixels, one sub-folder per digit."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / str(digit) / f"{number:04d}.png")


def score_blocks(store: Path) -> dict[str, dict[str, float]]:
    """Cross-validate each head on each single block; return the accuracy at the best C."""
    data = featx.load_features(store)
    blocks = {name.removeprefix("block").removesuffix("_avg"): [columns] for name, columns in data.features.items()}
    search = featx.HeadSearchCV(HEADS, feature_sets=blocks, normalize="power", n_jobs=-1, random_state=0, refit=False)
    search.fit(data.data, data.target, groups=data.groups)
    scores: dict[str, dict[str, float]] = {block: {} for block in blocks}
    for candidate in sorted(search.candidates_, key=lambda candidate: candidate.mean):
        scores[candidate.feature_set][candidate.head] = candidate.mean
    return scores


def main(folder: Path, size: int = 64, count: int = 1797) -> dict[str, dict[str, float]]:
    """Write, extract, fit, evaluate and predict digits; return the accuracy by block and head."""
    say = sys.stdout.write
    images, store, saved = folder / "digits", folder / "digits.h5", folder / "digits.featx"
    say(f"Writing scikit-learn's digits to {images}\n")
    write_digits(images, count)
    say(f"\n$ featx extract {images} -o {store} --size {size}\n")
    report = featx.extract(images, store, featx.ExtractSpec(size=size), featx.Compute(progress=True))
    say(f"{report.rows} rows, {report.extracted} extracted in {report.seconds:.1f} s\n")
    say("\nCross-validated accuracy of each block and head\n")
    say(f"{'block':<7}" + "".join(f"{head:>14}" for head in HEADS) + "\n")
    table = score_blocks(store)
    for block, scores in table.items():
        say(f"{block:<7}" + "".join(f"{scores[head]:>14.4f}" for head in HEADS) + "\n")
    say(f"\n$ featx fit {store} -o {saved} --test-size 0.2\n")
    model = featx.fit(store, saved, overwrite=True, validation=featx.Validation(test_size=0.2))
    blocks = ", ".join(map(str, model.spec.blocks))
    score = model.info["search"]["best"]["mean"]
    say(f"chosen: {model.head} on blocks {blocks} with C = {model.info['C']:g}, {score:.4f} cross-validated\n")
    say(f"\n$ featx evaluate {saved} {store}\n")
    say(f"accuracy on the held-out fifth: {featx.evaluate(model, store)['accuracy']:.4f}\n")
    say(f"\n$ featx predict {saved} {images / '7'}\n")
    predictions = list(featx.predict(model, [images / "7"]))
    for prediction in predictions[:3]:
        say(f"{prediction.path}: {prediction.classes[0]}\n")
    say(f"… {len(predictions)} predictions\n")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder for images, store and model")
    parser.add_argument("--size", type=int, default=64, help="image side in pixels")
    parser.add_argument("--images", type=int, default=1797, help="number of digits")
    options = parser.parse_args()
    main(options.folder, options.size, options.images)
