"""What `featx.audit.audit` measures, as values that JSON holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loss:
    """Accuracy that is lost, as a share: the mean over folds of the differences, and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class Cost:
    """What one mistake does.

    ``changed`` is for how many images it makes a difference to what the backbone is given, ``cosines`` the mean cosine of
    right and wrong features by name, over all images. ``at_prediction`` is lost by a head that was fitted on right
    features and is given wrong ones, ``throughout`` by one that is also fitted on wrong ones, with C and blocks chosen
    anew; None where accuracy was not measured.
    """

    name: str
    origin: str
    changed: int
    cosines: dict[str, float]
    at_prediction: Loss | None
    throughout: Loss | None


@dataclass(frozen=True)
class Audit:
    """The cost of each mistake on a sample of ``images``.

    ``accuracy`` is cross-validated with the declared preprocessing, None where it was not measured; ``failed`` are
    (path, reason) of drawn images that could not be read, and ``notes`` say what was not measured, and why.
    """

    source: str
    images: int
    head: str
    folds: int
    accuracy: float | None
    standard_error: float | None
    costs: tuple[Cost, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
