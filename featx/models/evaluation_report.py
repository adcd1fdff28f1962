"""The scores of a model, with a short display for terminals and notebooks."""

from typing import Any

from featx.heads import SCORE_TITLES
from featx.runtime import html_table, pluralize


class EvaluationReport(dict[str, Any]):
    """The scores that `featx.evaluate` returns: a dictionary that can be written as JSON.

    Its display shows the main scores. `featx.heads.format_report` makes a full text with a table of the classes.
    """

    @property
    def _title(self) -> str:
        rows, unknown = pluralize(self["n"], "row"), self.get("unknown", 0)
        skipped = f", {unknown:,} without a known label not scored" if unknown else ""
        return f"EvaluationReport: {rows} of {self.get('store', 'a store')}{skipped}"

    @property
    def _scores(self) -> dict[str, str]:
        return {title: f"{self[name]:.4f}" for name, title in SCORE_TITLES.items() if self.get(name) is not None}

    def __repr__(self) -> str:
        scores = ", ".join(f"{title} {score}" for title, score in self._scores.items())
        return f"<{self._title}\n  {scores}>"

    def _repr_html_(self) -> str:
        return html_table(self._title, self._scores)
