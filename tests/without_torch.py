"""Import this first in a fresh process: from then on, torch and torchvision are not installed."""

import sys
from importlib.machinery import PathFinder

assert "torch" not in sys.modules


class WithoutTorch:
    """Finds every module but those of torch and torchvision."""

    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches

    @staticmethod
    def find_spec(name, path=None, target=None):
        hidden = name.partition(".")[0] in ("torch", "torchvision")
        return None if hidden else PathFinder.find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutTorch
