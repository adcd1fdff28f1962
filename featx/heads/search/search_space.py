"""Find out from the parameters of a HeadSearchCV what it compares: rows, feature sets and values of C."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from featx.heads.pipeline.normalizer import widths_by_name
from featx.heads.search.feature_sets import FeatureSet, make_feature_sets
from featx.heads.search.grids import OpenGrids, make_grids
from featx.heads.search.problem import Problem, make_problem

if TYPE_CHECKING:
    from featx.heads.search.head_search_cv import HeadSearchCV


@dataclass(frozen=True)
class SearchSpace:
    """The problem, the feature sets and the values of C of each head."""

    problem: Problem
    sets: Sequence[FeatureSet]
    grids: OpenGrids


def make_search_space(
    search: "HeadSearchCV", X: NDArray[Any], y: NDArray[Any], sample_weight: ArrayLike | None
) -> SearchSpace:
    """Return the problem, feature sets and grids of a search on rows X (rows, columns) with labels y."""
    problem = make_problem(
        X,
        y,
        sample_weight=sample_weight,
        normalize=search.normalize,
        class_weight=search.class_weight,
        scoring=search.scoring,
    )
    names = getattr(search, "feature_names_in_", None)
    sets = make_feature_sets(search.feature_sets, X.shape[1], names)
    if search.normalize == "power" and names is not None:
        sets = [_with_named_blocks(chosen, names) for chosen in sets]
    return SearchSpace(problem, sets, make_grids(search.heads, search.Cs, problem.multilabel))


def _with_named_blocks(chosen: FeatureSet, names: NDArray[Any]) -> FeatureSet:
    """Divide a set into blocks by names of columns such as ``block3_avg_17``."""
    if chosen.widths:
        return chosen
    widths = widths_by_name([name for start, stop in chosen.ranges for name in names[start:stop]])
    return FeatureSet(chosen.name, chosen.ranges, widths or None)
