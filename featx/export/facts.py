"""What an exported file says of itself, beside its numbers."""

import json

from featx.model import Model
from featx.spec import PREPROCESSINGS
from featx.version import __version__


def facts_of(model: Model) -> dict[str, str]:
    """Texts by name; all but ``featx``, the version, and ``head`` are JSON."""
    preprocessing = PREPROCESSINGS[model.spec.preprocessing]
    normalizer = model.estimator.named_steps["normalizer"]
    kind = normalizer if isinstance(normalizer, str) else type(normalizer).__name__
    block = {"widths": normalizer.widths_, "power": normalizer.power} if kind == "BlockNormalizer" else {}
    return {
        "featx": __version__,
        "head": model.head,
        "classes": json.dumps(model.classes),
        "multilabel": json.dumps(model.multilabel),
        "spec": model.spec.to_json(),
        "preprocessing": json.dumps({"mean": preprocessing.mean, "std": preprocessing.std}),
        "normalizer": json.dumps({"kind": kind, **block}),
    }
