"""Which parts of a model torch has trained; asked without importing torch."""

from typing import Any, Protocol

from sklearn.pipeline import Pipeline

from featx.heads import get_hidden_layer

PARTS = ("head", "backbone")
KEY = "trained_by_torch"
"""Under this key, a model's ``info`` lists the parts that torch has trained."""


class Described(Protocol):
    """What `trained_parts` needs of a model."""

    @property
    def estimator(self) -> Pipeline:
        """The fitted normalizer and head."""

    @property
    def info(self) -> dict[str, Any]:
        """How the model was made."""


def trained_parts(model: Described) -> tuple[str, ...]:
    """List which parts of a model torch has trained: ``head``, ``backbone``, both or none.

    A part that torch has trained was not fitted by scikit-learn, so cross-validation cannot repeat how it was made.
    """
    # The first versions of featx finetune stored only the number of epochs per stage; both stages train the head.
    epochs = model.info.get("finetune", {}).get("epochs", {})
    found = {"head": any(epochs.values()) or get_hidden_layer(model.estimator), "backbone": epochs.get("backbone")}
    return tuple(part for part in PARTS if part in model.info.get(KEY, ()) or found[part])
