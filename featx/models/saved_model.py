"""The saved model: a linear head's weights, its normalizer, and the spec of the features that it takes.

A ``.featx`` file is a safetensors file: arrays, and one JSON text in its metadata under ``featx``. Opening it runs no
code. Its last 32 bytes, the tensor ``sha256``, digest all bytes before them, so that any changed byte is noticed.

Schema 1 has ``weight``, ``bias``, a normalizer's arrays and ``golden.<name>``, and may have ``fitted``. Schema 2 may
have a calibration, the tensors ``calibration.slope`` and ``calibration.intercept``; a hidden layer, ``hidden.weight``
and ``hidden.bias``; or a head of several labels an image, the parameter ``multilabel``. A file claims the lowest schema
that holds its model, so that an older featx opens all that it can use.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load, save
from sklearn.pipeline import Pipeline

from featx.backbones import BackboneWeights
from featx.errors import FeatxError, ModelError
from featx.files import MAX_HEADER, atomic_write
from featx.heads import HEADS, Calibration, give_state, hidden_of, is_multilabel, linear_parts, take_state
from featx.spec import ExtractSpec
from featx.store import GOLDEN_ROWS

if TYPE_CHECKING:
    from featx.models.torch_modules import ImageClassifier

SCHEMA = 2
_DIGEST_BYTES = hashlib.sha256().digest_size
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted head and all that is needed to use it on images.

    Parameters
    ----------
    spec : ExtractSpec
        Of the features that the head takes, and of no others.
    classes : tuple of str
        Class names, sorted: those that the estimator was fitted on, or of the columns of its indicator.
    head : str
        A key of ``featx.heads.HEADS``.
    estimator : sklearn.pipeline.Pipeline
        From `featx.heads.make_head`, fitted on rows of ``spec``'s columns and on class names, or, for several labels
        an image, on an indicator.
    golden : dict of str to array
        Features of the golden images, float32 (3, width) by name, from where the head's own were extracted.
    info : dict
        What else is known of the model; must go into JSON.
    calibration : Calibration, optional
        From decisions to probabilities, for a head that has none of its own.
    fitted : uint64 array (images,), optional
        By `featx.heads.image_ids.compact_ids`, the images that it was fitted on, by which `featx.evaluate` leaves them out. Models
        of the first featx have none.
    path : Path, optional
        The file that it was read from, beside which a fine-tuned backbone's weights lie; not part of what is saved.

    Raises
    ------
    ModelError
        If the parts do not fit together; the message names the part.
    """

    spec: ExtractSpec
    classes: tuple[str, ...]
    head: str
    estimator: Pipeline
    golden: dict[str, NDArray[np.float32]]
    info: dict[str, Any]
    calibration: Calibration | None = None
    fitted: NDArray[np.uint64] | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ModelError(f"head of the model must be one of {', '.join(HEADS)}, got {self.head!r}")
        fitted = tuple(np.asarray(getattr(self.estimator, "classes_", ())).tolist())
        if fitted != (tuple(range(len(self.classes))) if self.multilabel else self.classes):
            raise ModelError(f"classes of the model must be those of its estimator's fit, {fitted}, got {self.classes}")
        weights, bias = linear_parts(self.estimator)
        columns, normalizer = self.spec.width, self.estimator.named_steps["normalizer"]
        hidden = hidden_of(self.estimator)
        first = hidden.coef_.shape[1] if hidden else weights.shape[1]
        takes = (getattr(normalizer, "n_features_in_", first), first)
        if takes != (columns, columns):
            raise ModelError(f"estimator of the model must take the {columns} columns of its spec, got {takes}")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ModelError("weights of the model must be finite, got NaN or infinity; look for them in the features")
        if self.calibration and self.calibration.slope.shape != bias.shape:
            shape = self.calibration.slope.shape
            raise ModelError(
                f"calibration of the model must have {bias.shape} slopes, as its head has rows, got {shape}"
            )
        if self.fitted is not None and not (self.fitted.dtype == np.uint64 and self.fitted.ndim == 1):
            got_marks = f"{self.fitted.dtype} {self.fitted.shape}"
            raise ModelError(f"fitted of the model must be a row of uint64, got {got_marks}")
        wanted = {name: f"float32 ({GOLDEN_ROWS}, {width})" for name, width in self.spec.widths.items()}
        got = {name: f"{values.dtype} {values.shape}" for name, values in self.golden.items()}
        if got != wanted:
            raise ModelError(f"golden features of the model must be {wanted}, got {got}")

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several labels, or none: each class is decided by itself."""
        return is_multilabel(self.estimator)

    @property
    def fitted_on(self) -> str:
        """Of which rows `featx.fit.fit` fitted it, in words."""
        rows, of, selection = self.info["rows"], self.info.get("store_rows"), self.info["selection"]
        count = f"{rows:,} rows" if of in (None, rows) else f"{rows:,} of {of:,} rows"
        if "column" in selection:
            return f"{count}, {selection['column']}: train"
        return f"{count}, {selection['test_size']:.0%} held out" if "test_size" in selection else count

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Class names (rows,) for features (rows, columns) in the order of ``spec.widths``.

        Of several labels an image an indicator (rows, classes), 1 where a decision is above 0.
        """
        names: NDArray[Any] = self.estimator.predict(X)
        return names

    def decision_function(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return the head's decisions, (rows, classes).

        Two classes that exclude each other have one decision per row, (rows,): above 0 for the second class.
        """
        values: NDArray[np.floating] = self.estimator.decision_function(X)
        return values

    @property
    def has_probabilities(self) -> bool:
        """Whether `predict_proba` is available; ``linear-svc`` has probabilities only if it was calibrated."""
        return bool(self.calibration) or hasattr(self.estimator, "predict_proba")

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:
        """Return probabilities, (rows, classes); each row sums to 1, except in a multi-label model.

        Raises
        ------
        ModelError
            If the head has no probabilities.
        """
        if not self.has_probabilities:
            raise ModelError(f"{self.head} without calibration has no probabilities; fit it with --calibrate")
        if self.calibration:
            return self.calibration.probabilities(self.decision_function(X))
        values: NDArray[np.floating] = self.estimator.predict_proba(X)
        return values

    def to_torch(self, weights: BackboneWeights | str | Path | None = None) -> "ImageClassifier":
        """The model as a torch module from images to the head's decisions: `featx.models.torch_bridge.to_torch`."""
        from featx.models.torch_bridge import to_torch

        return to_torch(self, weights)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the model, whole or not at all; equal models give equal bytes.

        Raises
        ------
        ModelError
            If ``path`` is there without ``overwrite``, if it cannot be written, or if ``info`` is not JSON.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise ModelError(f"{path} is there already; choose another --output, or replace it with --overwrite")
        data = _to_bytes(self)
        with atomic_write(path, ModelError) as temporary:
            temporary.write_bytes(data)


def load_model(path: str | Path) -> Model:
    """Read what `Model.save` wrote; its estimator computes the same, to the bit.

    Raises
    ------
    ModelError
        If it is not there, is no featx model, is cut short or has a changed byte, or if a later featx wrote it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            document = _read_document(file, path)
            file.seek(0)
            data = file.read()
    except FileNotFoundError:
        raise ModelError(f"{path} is not there; make it with: featx fit STORE --output {path}") from None
    except FeatxError:
        raise
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise ModelError(f"{path} is cut short or has changed bytes: its digest does not match; copy or fit it anew")
    try:
        model = _build(document, load(data), path)
        _try(model)
    except Exception as error:  # What is made of any values at all raises anything.
        raise ModelError(f"{path} is no model that this featx can use: {error}") from error
    return model


def _try(model: Model) -> None:
    """Ask a model for what it can say, of the golden images and of their negatives: it must not fail later."""
    golden = np.hstack([model.golden[name] for name in model.spec.widths])
    with np.errstate(all="ignore"):
        for rows in (golden, -golden):
            model.predict(rows)
            if model.has_probabilities:
                model.predict_proba(rows)


def _read_document(file: BinaryIO, path: Path) -> dict[str, Any]:
    """The JSON in a model's header, read with no trust in any length that the file claims."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    if start == _HDF5_MAGIC:
        raise ModelError(f"{path} is an HDF5 file, perhaps a store, and no model; featx fit makes a model from a store")
    length = int.from_bytes(start, "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ModelError(f"{path} is no featx model, or is cut short: its header does not fit in the file")
    try:
        document: dict[str, Any] = json.loads(json.loads(file.read(length))["__metadata__"]["featx"])
        schema = int(document["schema"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise ModelError(f"{path} is no featx model, or is damaged: its header is not one of featx") from None
    if schema > SCHEMA:
        raise ModelError(f"{path} has schema {schema}, this featx reads up to {SCHEMA}; update featx")
    return document


def _to_bytes(model: Model) -> bytes:
    state, arrays = take_state(model.estimator, model.calibration)
    document = {
        "schema": 2 if model.calibration or model.multilabel or hidden_of(model.estimator) else 1,
        "spec": model.spec.to_json(),
        "classes": list(model.classes),
        "head": model.head,
        **state,
        "info": model.info,
    }
    try:
        text = json.dumps(document, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"info of the model must go into JSON: {error}") from None
    tensors = {**arrays, **{f"golden.{name}": values for name, values in model.golden.items()}}
    if model.fitted is not None:
        tensors["fitted"] = model.fitted
    contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    # The only tensor of bytes: safetensors puts the narrowest type last, so that it ends the file.
    contiguous["sha256"] = np.zeros(_DIGEST_BYTES, np.uint8)
    body = save(contiguous, {"featx": text})[:-_DIGEST_BYTES]
    return body + hashlib.sha256(body).digest()


def _build(document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], path: Path) -> Model:
    classes, head = tuple(document["classes"]), document["head"]
    estimator, calibration = give_state(head, classes, document, tensors)
    spec = ExtractSpec.from_json(document["spec"])
    golden = {name: tensors[f"golden.{name}"].copy() for name in spec.widths}
    return Model(spec, classes, head, estimator, golden, document["info"], calibration, tensors.get("fitted"), path)
