"""The model: a linear head, its normalizer, and the spec of the features that it takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline

from featx.backbones import BackboneWeights
from featx.errors import ModelError
from featx.heads import (
    HEADS,
    PrecomputedDecisions,
    TemperatureCalibration,
    class_decisions,
    get_hidden_layer,
    is_multilabel,
    linear_parts,
)
from featx.runtime import html_table, pluralize, shorten_list
from featx.spec import ExtractSpec
from featx.store import REFERENCE_IMAGES

if TYPE_CHECKING:
    from featx.models.torch_modules import ImageClassifier


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A fitted head, with all that is needed to apply it to images.

    `featx.fit` makes a model and `featx.load_model` reads a saved one.

    Parameters
    ----------
    spec : ExtractSpec
        The features that the head takes. It has no other features.
    classes : tuple of str
        The class names, sorted.
    head : str
        A key of `featx.heads.HEADS`.
    estimator : sklearn.pipeline.Pipeline
        Pipeline from `featx.heads.make_head`, fitted on rows with the columns of ``spec`` and on class names. A
        multi-label model is fitted on a 0/1 matrix (rows, classes) instead of class names.
    reference_features : dict of str to array
        Features of the three reference images by feature layer, float32 (3, width). They were computed on the machine
        that extracted the training features. `featx.predict` computes them again and compares both, to notice a machine
        that gives other features.
    info : dict
        How the model was fitted: C, scores of the search, training rows, versions. It must be valid JSON.
    calibration : TemperatureCalibration, optional
        For ``linear-svc``, it turns decisions into probabilities.
    fitted_image_ids : uint64 array (images,), optional
        Identifiers of the training images (`featx.heads.compact_ids`), so that `featx.evaluate` can leave these images
        out. Models of the first version do not have them.
    path : Path, optional
        The file that the model was read from. If the backbone was fine-tuned, its weights are beside this file. The
        path is not saved.

    Raises
    ------
    ModelError
        If the parts do not match one another. The message names the part.
    """

    spec: ExtractSpec
    classes: tuple[str, ...]
    head: str
    estimator: Pipeline
    reference_features: dict[str, NDArray[np.float32]]
    info: dict[str, Any]
    calibration: TemperatureCalibration | None = None
    fitted_image_ids: NDArray[np.uint64] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ModelError(f"head of the model must be one of {', '.join(HEADS)}, got {self.head!r}")
        fitted = tuple(np.asarray(getattr(self.estimator, "classes_", ())).tolist())
        if fitted != (tuple(range(len(self.classes))) if self.multilabel else self.classes):
            raise ModelError(
                f"classes of the model must be those that its estimator was fitted on, {fitted}, got {self.classes}"
            )
        self._check_weights()
        if self.fitted_image_ids is not None:
            self._check_image_ids(self.fitted_image_ids)
        wanted = {name: f"float32 ({REFERENCE_IMAGES}, {width})" for name, width in self.spec.widths.items()}
        got = {name: f"{values.dtype} {values.shape}" for name, values in self.reference_features.items()}
        if got != wanted:
            raise ModelError(f"reference features of the model must be {wanted}, got {got}")

    def _check_weights(self) -> None:
        weights, bias = linear_parts(self.estimator)
        columns, normalizer = self.spec.width, self.estimator.named_steps["normalizer"]
        hidden = get_hidden_layer(self.estimator)
        first = hidden.coef_.shape[1] if hidden else weights.shape[1]
        takes = (getattr(normalizer, "n_features_in_", first), first)
        if takes != (columns, columns):
            raise ModelError(
                f"normalizer and head of the model must take the {columns} columns of its spec, got {takes[0]} and "
                f"{takes[1]}"
            )
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ModelError("weights of the model must be finite, got NaN or infinity; look for them in the features")
        if self.calibration and self.multilabel:
            raise ModelError(
                "calibration of the model must be None, because the model is multi-label, got a temperature"
            )

    @staticmethod
    def _check_image_ids(ids: NDArray[np.uint64]) -> None:
        if ids.dtype != np.uint64 or ids.ndim != 1:
            raise ModelError(
                f"fitted_image_ids of the model must be uint64 of one dimension, got {ids.dtype} {ids.shape}"
            )

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels or none, so that each class is decided separately."""
        return is_multilabel(self.estimator)

    @property
    def training_summary(self) -> str:
        """The training rows in words: ``1,088 of 1,360 rows, split: train``."""
        rows, of, selection = self.info["rows"], self.info.get("store_rows"), self.info["selection"]
        count = f"{rows:,} rows" if of in (None, rows) else f"{rows:,} of {of:,} rows"
        if "column" in selection:
            return f"{count}, {selection['column']}: train"
        return f"{count}, {selection['test_size']:.0%} held out" if "test_size" in selection else count

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class name of each row, (rows,), for features (rows, columns) in the order of ``spec.widths``.

        The predicted class has the largest decision, and so also the largest probability. If several decisions are
        equally large, the first of their classes is predicted. Prediction, evaluation and exported files all follow
        this rule. A multi-label model returns a 0/1 matrix (rows, classes), 1 where the decision is above 0.
        """
        decisions = self.decision_function(X)
        if self.multilabel:
            return (decisions > 0).astype(int)
        names: NDArray[Any] = self.estimator.classes_[class_decisions(decisions).argmax(axis=1)]
        return names

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the head's decisions, (rows, classes).

        Two classes that exclude each other share one decision per row, (rows,), as in scikit-learn. A decision above 0
        means the second class. `featx.predict`, `to_torch` and exported files give each of the two classes its own
        decision: d/2 for the second class and -d/2 for the first class, if d is the shared decision.
        """
        values: NDArray[np.floating] = self.estimator.decision_function(X)
        return values

    @property
    def has_probabilities(self) -> bool:
        """Whether `predict_proba` is available. ``linear-svc`` has probabilities only if it was calibrated."""
        return bool(self.calibration) or hasattr(self.estimator, "predict_proba")

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities, (rows, classes). Each row sums to 1, except in a multi-label model.

        Raises
        ------
        ModelError
            If the head has no probabilities.
        """
        return self.probabilities_of(self.decision_function(X))

    def probabilities_of(self, decisions: ArrayLike) -> NDArray[np.float64]:
        """Return the probabilities (rows, classes) that belong to decisions from `decision_function`.

        They are computed in float64, as in scikit-learn's ``predict_proba``.

        Raises
        ------
        ModelError
            If the head has no probabilities.
        """
        if not self.has_probabilities:
            raise ModelError(f"{self.head} without calibration has no probabilities; fit it with --calibrate")
        values = np.asarray(decisions, dtype=np.float64)
        if self.calibration:
            return self.calibration.predict_proba(values)
        computed = PrecomputedDecisions(self.head, np.array(self.classes), self.multilabel)
        probabilities: NDArray[np.float64] = computed.predict_proba(values)
        return probabilities

    def to_torch(self, weights: BackboneWeights | str | Path | None = None) -> "ImageClassifier":
        """Return a torch module that maps images to decisions. `featx.models.to_torch` has the details."""
        from featx.models import to_torch

        return to_torch(self, weights)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model to a file in one step. Equal models give equal bytes.

        Raises
        ------
        ModelError
            If ``path`` exists and ``overwrite`` is false, if it cannot be written, or if ``info`` is not valid JSON.
        """
        # Imported here because that file imports this class.
        from featx.models.model_file import write_model

        write_model(self, Path(path), overwrite=overwrite)

    def __repr__(self) -> str:
        facts = self._facts
        title = facts.pop("model")
        return "\n".join([f"<Model: {title}", *(f"  {name}: {value}" for name, value in facts.items())]) + ">"

    def _repr_html_(self) -> str:
        facts = self._facts
        return html_table(f"Model: {facts.pop('model')}", facts)

    @property
    def _facts(self) -> dict[str, str]:
        """The main facts about the model by name, for its repr."""
        info, spec = self.info, self.spec
        title = [self.head, *([f"C = {info['C']:g}"] if "C" in info else []), *["calibrated"] * bool(self.calibration)]
        blocks = f"block{'s' * (len(spec.blocks) > 1)} {', '.join(map(str, spec.blocks))}"
        facts = {
            "model": ", ".join([*title, *["multi-label"] * self.multilabel]),
            "classes": f"{len(self.classes)} ({shorten_list(self.classes)})",
            "features": f"{blocks}, {', '.join(spec.pools)}: {pluralize(spec.width, 'column')}",
            "images": f"{spec.size} pixels, {spec.resize}; backbone {spec.backbone}, {spec.precision}",
        }
        if "rows" in info and "selection" in info:
            facts["fitted on"] = self.training_summary
        if "groups" in info:
            facts["groups"] = describe_groups(info["groups"])
        best = info.get("search", {}).get("best")
        if best and best["mean"] is None:
            facts["cross-validation"] = "none: every class has one image or group"
        elif best:
            score = f"{info['search']['scoring']} {best['mean']:.4f} (standard error {best['standard_error']:.4f})"
            facts["cross-validation"] = score
        if "not_converged" in info:
            facts["not converged"] = info["not_converged"]
        return facts


def describe_groups(groups: dict[str, Any]) -> str:
    """Describe in words the groups that ``Model.info`` stores: ``261 by column tile``."""
    sources = [f"column {groups['source']}"] * (groups["column"] != "none")
    sources += ["near-duplicates"] * groups["near_duplicates"]
    return f"{groups['count']:,} by {' and '.join(sources)}"
