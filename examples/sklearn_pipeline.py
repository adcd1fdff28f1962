"""featx inside scikit-learn: a grid search over the backbone's depth and the head at once.

    python examples/sklearn_pipeline.py PHOTOS WORK [--size 224]

PHOTOS holds one sub-folder a class; WORK keeps the cache, in which each image is extracted once for the whole search.
"""

import argparse
import sys
from pathlib import Path

from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from featx import BlockNormalizer, VGG16Features
from featx.images import list_images

GRID = {"vgg16features__blocks": ["2", "3-4", "3-5", "5"], "linearsvc__C": [0.1, 1.0]}


def main(photos: Path, work: Path, size: int = 224) -> GridSearchCV:
    """Search on three quarters of the images, and score on the rest; the fitted search."""
    listing = list_images(photos)
    paths = [str(listing.root / path) for path in listing.paths]
    labels = [listing.classes[code] for code in listing.labels]
    train, test, train_labels, test_labels = train_test_split(paths, labels, stratify=labels, random_state=0)
    work.mkdir(parents=True, exist_ok=True)
    pipeline = make_pipeline(VGG16Features(size=size, cache=work / "cache.h5"), BlockNormalizer(), LinearSVC())
    search = GridSearchCV(pipeline, GRID, cv=3).fit(train, train_labels)
    say = sys.stdout.write
    for parameters, mean in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        blocks, C = (parameters[name] for name in GRID)
        say(f"blocks {blocks:<4} C = {C:<4} {mean:.4f}\n")
    names = search.best_estimator_[:-1].get_feature_names_out()
    say(f"best: {search.best_params_}, {len(names)} columns, {names[0]} … {names[-1]}\n")
    say(f"accuracy on the {len(test)} images left out: {search.score(test, test_labels):.4f}\n")
    return search


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--size", type=int, default=224, help="image side in pixels")
    options = parser.parse_args()
    main(options.photos, options.work, options.size)
