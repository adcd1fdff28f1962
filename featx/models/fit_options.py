"""The two groups of options of `featx.fit`: how the head is fitted, and how it is validated."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featx.errors import SpecError
from featx.heads import NORMALIZERS

SELECTIONS = ("best", "one-se")


@dataclass(frozen=True, eq=False, repr=False)
class FitOptions:
    """How `featx.fit` fits a head.

    Parameters
    ----------
    normalize : {"power", "standard", "none"}
        Normalization of the features. ``power`` takes the signed square root and scales each feature layer to unit
        norm. ``standard`` scales each column to zero mean and unit variance.
    class_weight : {"balanced"}, optional
        Weight each class inversely to its number of rows, as in scikit-learn. By default all rows count equally.
    sample_weight : float array (rows of the store,), optional
        Weight of each row of the store in the fits, above 0. Scores do not use the weights.
    weight_column : str, optional
        Column of the store that holds the sample weights. Its name begins with ``weight``.
    calibrate : bool
        Fit a temperature that turns the decisions of ``linear-svc`` into probabilities, on held-out rows of each fold.
        The predictions do not change. The other heads have probabilities without calibration.
    stream : bool
        Read the rows from disk in blocks, for a store that does not fit in memory. This needs ``head="softmax"`` and a
        given ``C``, because it does not search.

    Raises
    ------
    SpecError
        If ``normalize`` or ``class_weight`` is not one of the choices.
    """

    normalize: str = "power"
    class_weight: str | None = None
    sample_weight: ArrayLike | None = None
    weight_column: str | None = None
    calibrate: bool = False
    stream: bool = False

    def __post_init__(self) -> None:
        _check_choice("--normalize", self.normalize, NORMALIZERS)
        if self.class_weight is not None:
            _check_choice("--class-weight", self.class_weight, ("balanced",))

    def __repr__(self) -> str:
        return _short_repr(self)


@dataclass(frozen=True, repr=False)
class Validation:
    """Which rows `featx.fit` fits on, and how it compares the candidates by cross-validation.

    Parameters
    ----------
    split_column : str, optional
        Column of the store. The head is fitted on the rows whose value is ``train``. By default, the column ``split``
        is used if the store has it.
    test_size : float, optional
        Share of the rows to hold out for `featx.evaluate`, stratified by class. It replaces a split column.
    group_column : str, optional
        Column of the store. Images with equal values, such as images of one patient or scene, stay on one side of every
        fold and of the hold-out. By default, the column ``group`` is used if the store has it; ``none`` uses no column.
    group_near_duplicates : bool
        Also keep near-duplicates on one side, such as the frames of a burst.
    folds : int
        Number of folds, at least 2. A class with fewer images or groups is not tested in every fold. In the other
        folds, all its images are training images.
    repeats : int
        Number of times that the cross-validation is repeated with other folds.
    scoring : str, optional
        Name of a scikit-learn scorer for classifiers, by default ``accuracy``. For a multi-label store, it is
        ``average_precision_macro`` (the default) or ``average_precision_micro``.
    select : {"best", "one-se"}
        Candidate to select: the one with the highest mean score, or the simplest one whose mean is within one standard
        error of the highest.
    nested : bool
        Also estimate by nested cross-validation how good the selected head is on new images. The mean score of the
        selected candidate is optimistic, because it is the highest of many.
    random_state : int
        Seed of the folds and of the held-out rows.

    Raises
    ------
    SpecError
        If a value is not allowed. The message names the option.
    """

    split_column: str | None = None
    test_size: float | None = None
    group_column: str | None = None
    group_near_duplicates: bool = False
    folds: int = 5
    repeats: int = 1
    scoring: str | None = None
    select: str = "best"
    nested: bool = False
    random_state: int = 0

    def __post_init__(self) -> None:
        _check_choice("--select", self.select, SELECTIONS)

    def __repr__(self) -> str:
        return _short_repr(self)


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(f"{option} of fit must be one of {', '.join(allowed)}, got {value!r}")


def changed_options(options: FitOptions | Validation) -> dict[str, Any]:
    """Return the fields that differ from their defaults, by name."""
    pairs = {field.name: (getattr(options, field.name), field.default) for field in dataclasses.fields(options)}
    # If the value is an array, the default is None. Comparing both would give an array, so None is checked first.
    return {name: value for name, (value, default) in pairs.items()
            if value is not default and (default is None or value != default)}  # fmt: skip


def _short_repr(options: FitOptions | Validation) -> str:
    shown = {name: f"<array of shape {np.shape(value)}>" if name == "sample_weight" else repr(value)
             for name, value in changed_options(options).items()}  # fmt: skip
    return f"{type(options).__name__}({', '.join(f'{name}={text}' for name, text in shown.items())})"
