"""What was extracted and how: the store's images, the spec of its features, and the model's provenance."""

from dataclasses import dataclass
from typing import Any

from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Figure, Section
from featx.models import Model
from featx.runtime import pluralize
from featx.version import __version__

TITLE = "What was extracted"

Facts = list[tuple[str, str]]
SHORT = 16
"""Letters of a digest that are shown."""
RESIZES = {
    "squash": "both sides resized, whatever the proportions",
    "crop": "short side fitted, center kept",
    "pad": "long side fitted, the rest filled",
}


@dataclass(frozen=True)
class Extraction:
    """Groups of facts, each a name and a value, and the images that could not be read with their reasons."""

    groups: dict[str, Facts]
    failures: list[str]


def make(run: Run) -> Section:
    """All that is needed to know what was done."""
    groups = {"Images": _images(run), "Features": _features(run.facts["spec"], run.facts["features"])}
    if run.model:
        groups["Head"] = _head(run.model)
    groups["Software"] = _software(run)
    data = Extraction(groups, run.facts["failures"])
    figure = Figure(
        "Images", f"{run.facts['images']:,}", f"in {pluralize(len(run.facts['classes']), 'class', 'classes')}"
    )
    return Section("extraction", TITLE, _lead(run.facts), data, figure=figure)


def _lead(facts: dict[str, Any]) -> str:
    spec, failed = facts["spec"], len(facts["failures"])
    read = f"{pluralize(failed, 'image')} could not be read" if failed else "all could be read"
    return (
        f"{pluralize(facts['images'], 'image')} went through the backbone once, at {spec['size']} × {spec['size']} "
        f"pixels, and gave features of blocks {_listed(spec['blocks'])}; {read}."
    )


def _images(run: Run) -> Facts:
    facts = run.facts
    sizes = sorted(facts["classes"].values())
    rows = [("Store", str(run.store)), ("Images", f"{facts['images']:,}"), ("Classes", f"{len(facts['classes']):,}")]
    if sizes:
        rows.append(("Images a class", f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"))
    column = run.selection.get("column")
    if column in facts["splits"]:
        rows.append(
            (f"Split column {column}", ", ".join(f"{n:,} {name}" for name, n in facts["splits"][column].items()))
        )
    rows += [("Without a label", f"{facts['unlabeled']:,}"), ("Turned upright by EXIF", f"{facts['turned']:,}"),
             ("Could not be read", f"{len(facts['failures']):,}")]  # fmt: skip
    return rows


def _features(spec: dict[str, Any], widths: dict[str, int]) -> Facts:
    rows = [
        ("Backbone", f"{spec['backbone']}, sha256 {spec['backbone_digest'][:SHORT]}…"),
        ("Input", f"RGB, preprocessing {spec['preprocessing']}"),
        ("Size", f"{spec['size']} × {spec['size']} pixels, {spec['interpolation']}"),
        ("Resize", f"{spec['resize']}: {RESIZES[spec['resize']]}"),
        ("Blocks", f"{_listed(spec['blocks'])}, pooled {_listed(spec['pools'])}"),
        ("Columns", f"{sum(widths.values()):,} float32, {4 * sum(widths.values()):,} bytes a row"),
        ("Precision", spec["precision"] + (", calibrated on a sample" if spec["calibration"] else "")),
    ]
    if spec["decode"] != "full":
        rows.append(("Decoding", spec["decode"]))
    if spec["n_views"] > 1:
        rows.append(
            ("Views", f"{spec['n_views']} per image: {spec['augment']}, fill {spec['fill']}, seed {spec['view_seed']}")
        )
    return rows


def _head(model: Model) -> Facts:
    info, found = model.info, model.info["search"]
    rows = [
        ("Head", model.head),
        ("C", f"{info['C']:g}"),
        ("Blocks", found["best"]["feature_set"]),
        ("Normalizer", found["normalize"]),
        ("Fitted on", model.training_summary),
        ("Chosen among", f"{len(found['rows']):,} by {found['folds']} folds of cross-validation"),
        (f"Cross-validated {found['scoring']}", _mean(found["best"])),
    ]
    if "nested" in info:
        rows.append(("Not flattered by the choice", _mean(info["nested"])))
    # Of models that an earlier featx tuned, info still tells of a calibration that was dropped.
    if model.calibration and "calibration" in info:
        rows.append(
            ("Probabilities", f"a {info['calibration']['method']} a class, {info['calibration']['folds']} folds")
        )
    if "finetune" in info:
        tuned = info["finetune"]
        rows.append(("Fine-tuned", f"validation {tuned['val_start']:.4f} → {tuned['val_best']:.4f}"))
    return rows


def _software(run: Run) -> Facts:
    rows = [("Store by", f"featx {run.facts['featx']}")]
    if run.model:
        rows.append(("Model by", ", ".join(f"{name} {number}" for name, number in run.model.info["versions"].items())))
    return [*rows, ("Report by", f"featx {__version__}")]


def _mean(found: dict[str, Any]) -> str:
    return f"{found['mean']:.4f} ± {found['standard_error']:.4f} (standard error)"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
