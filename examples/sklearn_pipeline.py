"""Use featx in a scikit-learn pipeline: search the best blocks of the backbone and C together.

    python examples/sklearn_pipeline.py PHOTOS WORK [--size 224]

PHOTOS has one sub-folder per class. WORK keeps a cache, so that the search computes the features of each image once.
"""

import argparse
import sys
from pathlib import Path

from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from featx import BlockNormalizer, VGG16Features

GRID = {"vgg16features__blocks": ["2", "3-4", "3-5", "5"], "linearsvc__C": [0.1, 1.0]}


def main(photos: Path, work: Path, size: int = 224) -> GridSearchCV:
    """Search on three quarters of the images and score on the rest; return the fitted search."""
    files = sorted(photos.glob("*/*"))
    paths, labels = [str(file) for file in files], [file.parent.name for file in files]
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
    say(f"accuracy on the {len(test)} held-out images: {search.score(test, test_labels):.4f}\n")
    return search


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder with one sub-folder per class")
    parser.add_argument("work", type=Path, metavar="WORK", help="folder for the cache")
    parser.add_argument("--size", type=int, default=224, help="image side in pixels")
    options = parser.parse_args()
    main(options.photos, options.work, options.size)
