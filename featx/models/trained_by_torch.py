"""Find out, without importing torch, which parts of a model were trained by torch."""

from featx.heads import get_hidden_layer
from featx.models.saved_model import Model

PARTS = ("head", "backbone")
KEY = "trained_by_torch"
"""Under this key, a model's ``info`` lists the parts that torch has trained."""


def trained_parts(model: Model) -> tuple[str, ...]:
    """List which parts of a model torch has trained: ``head``, ``backbone``, both or none.

    Cross-validation cannot fit such a part again, because scikit-learn did not fit it.
    """
    # The first versions of featx finetune stored only the number of epochs of each stage. Both stages train the head.
    epochs = model.info.get("finetune", {}).get("epochs", {})
    found = {"head": any(epochs.values()) or get_hidden_layer(model.estimator), "backbone": epochs.get("backbone")}
    return tuple(part for part in PARTS if part in model.info.get(KEY, ()) or found[part])
