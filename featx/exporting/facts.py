"""What an exported file says of itself, beside its numbers."""

import json
from typing import Any

from featx.backbones import PREPROCESSINGS
from featx.models import Model
from featx.version import __version__


def facts_of(model: Model) -> dict[str, Any]:
    """What goes into the file's metadata, as values for JSON."""
    preprocessing = PREPROCESSINGS[model.spec.preprocessing]
    normalizer = model.estimator.named_steps["normalizer"]
    kind = normalizer if isinstance(normalizer, str) else type(normalizer).__name__
    block = {"widths": normalizer.widths_, "power": normalizer.power} if kind == "BlockNormalizer" else {}
    return {
        "featx": __version__,
        "head": model.head,
        "classes": model.classes,
        "multilabel": model.multilabel,
        "spec": json.loads(model.spec.to_json()),
        "preprocessing": {"mean": preprocessing.mean, "std": preprocessing.std},
        "normalizer": {"kind": kind, **block},
        # Of sigmoids, one a class, that make probabilities of decisions; null where there are none.
        "calibration": model.calibration and {"slope": model.calibration.slope.tolist(),
                                              "intercept": model.calibration.intercept.tolist()},
    }  # fmt: skip
