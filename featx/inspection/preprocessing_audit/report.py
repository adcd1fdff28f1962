"""The result of `featx.audit`, as dataclasses that can be written as JSON."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AccuracyLoss:
    """Lost accuracy, from 0 to 1: the mean over folds, and its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True)
class MistakeCost:
    """The cost of one mistake.

    Parameters
    ----------
    name, origin : str
        What the mistake is, and where it usually comes from.
    changed : int
        Number of images for which the mistake changes the input of the backbone.
    cosines : dict
        Mean cosine of correct and wrong features over all images, by feature.
    at_prediction : AccuracyLoss or None
        Loss of a head that was fitted on correct features and predicts on wrong features. None without labels.
    throughout : AccuracyLoss or None
        Loss of a head that was also fitted on wrong features, with its own C and blocks. None without labels.
    """

    name: str
    origin: str
    changed: int
    cosines: dict[str, float]
    at_prediction: AccuracyLoss | None
    throughout: AccuracyLoss | None


@dataclass(frozen=True, repr=False)
class AuditReport:
    """The cost of each mistake on a sample of images.

    Parameters
    ----------
    source : str
        Where the images are from.
    images : int
        Images in the sample that could be read.
    head : str
        The head whose accuracy is measured.
    folds : int
        Folds of the cross-validation.
    accuracy, standard_error : float or None
        Accuracy with correct preprocessing, from 0 to 1. None without labels.
    costs : tuple of MistakeCost
    failed : tuple of (path, reason)
        Images of the sample that could not be read.
    notes : tuple of str
        What was not measured, and why.
    """

    source: str
    images: int
    head: str
    folds: int
    accuracy: float | None
    standard_error: float | None
    costs: tuple[MistakeCost, ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        accuracy = "not measured" if self.accuracy is None else f"{self.accuracy:.4f}"
        lines = [f"AuditReport({self.source}: {self.images} images, {self.head}, accuracy {accuracy})"]
        for cost in self.costs:
            lost = f", loses {100 * cost.at_prediction.mean:.1f} points at prediction" if cost.at_prediction else ""
            lines.append(f"{cost.name}: changes {cost.changed} images{lost}")
        return "\n  ".join(lines)
