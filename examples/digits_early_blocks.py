"""The whole way on data that scikit-learn brings along: handwritten digits, as ``make demo`` runs it.

    python examples/digits_early_blocks.py FOLDER [--size 64] [--images 1797]

Data so unlike ImageNet wants early blocks: the table shows how accuracy rises and falls with depth.
"""

import argparse
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

from featx.cli import main as featx
from featx.curation import load_features
from featx.extraction import extract
from featx.heads import HEADS, HeadSearchCV
from featx.models import Validation, evaluate, fit, load_model
from featx.runtime import Compute
from featx.spec import ExtractSpec


def write_digits(folder: Path, count: int) -> None:
    """Write the first of the 1,797 digits as 8 × 8 pixel PNG files, one sub-folder a digit."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images[:count], digits.target[:count], strict=True)):
        (folder / str(digit)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(folder / str(digit) / f"{number:04d}.png")


def score_blocks(store: Path) -> dict[str, dict[str, float]]:
    """Cross-validated accuracy of each block alone and each head, at its best C."""
    data = load_features(store)
    alone = {name.removeprefix("block").removesuffix("_avg"): [columns] for name, columns in data.features.items()}
    search = HeadSearchCV(feature_sets=alone, normalize="power", n_jobs=-1, random_state=0, refit=False)
    search.fit(data.data, data.target, groups=data.groups)
    scores: dict[str, dict[str, float]] = {block: {} for block in alone}
    for candidate in sorted(search.candidates_, key=lambda candidate: candidate.mean):
        scores[candidate.feature_set][candidate.head] = candidate.mean
    return scores


def main(folder: Path, size: int = 64, count: int = 1797) -> dict[str, dict[str, float]]:
    """Digits to PNG files, to a store, to heads, to predictions; accuracy by block and head."""
    say = sys.stdout.write
    images, store, saved = folder / "digits", folder / "digits.h5", folder / "digits.featx"
    say(f"Writing scikit-learn's digits to {images}\n")
    write_digits(images, count)
    say(f"\n$ featx extract {images} -o {store} --size {size}\n")
    report = extract(images, store, ExtractSpec(size=size), Compute(progress=True))
    say(f"{report.rows} rows, {report.extracted} extracted in {report.seconds:.1f} s\n")
    say("\nCross-validated accuracy of each block and head\n")
    say(f"{'block':<7}" + "".join(f"{head:>14}" for head in HEADS) + "\n")
    table = score_blocks(store)
    for block, scores in table.items():
        say(f"{block:<7}" + "".join(f"{scores[head]:>14.4f}" for head in HEADS) + "\n")
    say(f"\n$ featx fit {store} -o {saved} --test-size 0.2\n")
    model = fit(store, saved, overwrite=True, validation=Validation(test_size=0.2))
    blocks = ", ".join(map(str, model.spec.blocks))
    score = model.info["search"]["best"]["mean"]
    say(f"chosen: {model.head} on blocks {blocks} with C = {model.info['C']:g}, {score:.4f} cross-validated\n")
    say(f"\n$ featx evaluate {saved} {store}\n")
    say(f"accuracy on the fifth that was held out: {evaluate(load_model(saved), store)['accuracy']:.4f}\n")
    command = ["predict", str(saved), str(images / "7"), "-o", str(folder / "predictions.csv")]
    say(f"\n$ featx {' '.join(command)}\n")
    featx(command, standalone_mode=False)
    header, *lines = (folder / "predictions.csv").read_text().splitlines()
    say("\n".join([header, *lines[:3], f"… {len(lines)} predictions in {folder / 'predictions.csv'}\n"]))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64, help="image side in pixels")
    parser.add_argument("--images", type=int, default=1797, help="how many digits")
    options = parser.parse_args()
    main(options.folder, options.size, options.images)
