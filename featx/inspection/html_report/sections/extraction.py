"""Make the section on the images, the features, the head and the software versions behind them."""

from dataclasses import dataclass
from typing import Any

from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Headline, Section
from featx.models import Model, describe_groups
from featx.runtime import pluralize, shorten_list
from featx.spec import AUTO
from featx.version import __version__

Facts = list[tuple[str, str]]
DIGEST_LENGTH = 16
"""Characters of a digest that are shown."""
RESIZE_TEXTS = {
    "squash": "both sides resized, proportions ignored",
    "crop": "short side resized, center cropped",
    "pad": "long side resized, borders filled",
}


@dataclass(frozen=True)
class ExtractionFacts:
    """Facts in groups; each fact has a name and a value. Also the images that could not be read, with the reasons."""

    groups: dict[str, Facts]
    failures: list[str]


def make_extraction(context: ReportContext) -> Section:
    """List where the features come from: images, spec, head and versions."""
    facts = context.facts
    groups = {"Images": _image_facts(context), "Features": _feature_facts(facts["spec"], facts["features"])}
    if context.model:
        groups["Head"] = _head_facts(context.model)
    groups["Software"] = _software_facts(context)
    classes = pluralize(len(facts["classes"]), "class", "classes")
    headline = Headline("Images", f"{facts['images']:,}", f"in {classes}")
    return Section(_lead(facts), ExtractionFacts(groups, facts["failures"]), headline=headline)


def _lead(facts: dict[str, Any]) -> str:
    spec, failed = facts["spec"], len(facts["failures"])
    read = f"{pluralize(failed, 'image')} could not be read" if failed else "all images could be read"
    return (
        f"Features of {pluralize(facts['images'], 'image')}, resized to {spec['size']} × {spec['size']} pixels, were "
        f"extracted from blocks {_listed(spec['blocks'])}; {read}."
    )


def _image_facts(context: ReportContext) -> Facts:
    facts = context.facts
    sizes = sorted(facts["classes"].values())
    rows = [
        ("Store", str(context.store)),
        ("Images", f"{facts['images']:,}"),
        ("Classes", f"{len(facts['classes']):,}"),
    ]
    if sizes:
        between = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
        rows.append(("Images per class", between))
    column = context.selection.get("split_column")
    if column in facts["splits"]:
        counts = ", ".join(f"{count:,} {name}" for name, count in facts["splits"][column].items())
        rows.append((f"Split column {column}", counts))
    rows += [("Without a label", f"{facts['unlabeled']:,}"), ("Rotated by EXIF", f"{facts['rotated by EXIF']:,}"),
             ("Unreadable", f"{len(facts['failures']):,}")]  # fmt: skip
    return rows


def _feature_facts(spec: dict[str, Any], widths: dict[str, int]) -> Facts:
    columns = sum(widths.values())
    rows = [
        ("Backbone", f"{spec['backbone']}, sha256 {spec['backbone_digest'][:DIGEST_LENGTH]}…"),
        ("Input", f"RGB, preprocessing {spec['preprocessing']}"),
        ("Size", f"{spec['size']} × {spec['size']} pixels, {spec['interpolation']}"),
        ("Resize", f"{spec['resize']}: {RESIZE_TEXTS[spec['resize']]}"),
        ("Blocks", _listed(spec["blocks"])),
        ("Pooling", _listed(spec["pools"])),
        ("Columns", f"{columns:,} float32, {4 * columns:,} bytes per row"),
        ("Precision", spec["precision"] + (", calibrated on a sample" if spec["calibration"] else "")),
    ]
    if spec["decode"] != "full":
        rows.append(("Decoding", spec["decode"]))
    if spec["range"] != AUTO:
        rows.append(("Range of values", f"{spec['range']}, for images of more than 8 bits"))
    if spec["n_views"] > 1:
        rows += [
            ("Rows per image", f"{spec['n_views']}: the image and its augmented copies"),
            ("Augmentation", f"{spec['augment']}, fill {spec['fill']}, seed {spec['view_seed']}"),
        ]
    return rows


def _head_facts(model: Model) -> Facts:
    info, search = model.info, model.info["search"]
    rows = [
        ("Head", model.head),
        ("C", f"{info['C']:g}"),
        ("Blocks", search["best"]["feature_set"]),
        ("Normalizer", search["normalize"]),
        ("Fitted on", model.training_summary),
        ("Selected from", f"{len(search['rows']):,} candidates, {search['folds']}-fold cross-validation"),
        (f"Cross-validated {search['scoring']}", _mean(search["best"])),
    ]
    if "not_converged" in info:
        rows.append(("Not converged", info["not_converged"]))
    if "groups" in info:
        rows.insert(5, ("Groups", describe_groups(info["groups"])))
    if "rare_classes" in info:
        rare = info["rare_classes"]
        names = shorten_list(rare["never_tested"]) or "none"
        rows.append(("Never tested", f"{pluralize(rare['images_never_tested'], 'image')}; classes: {names}"))
    if "nested" in info:
        rows.append((f"Nested {search['scoring']}", _mean(info["nested"])))
    # Fine-tuning drops the calibration, but models of older versions still mention it.
    if model.calibration and "calibration" in info:
        calibration = info["calibration"]
        rows.append(("Probabilities", f"calibrated by {calibration['method']}, {calibration['folds']} folds"))
    if "finetune" in info:
        tuned = info["finetune"]
        rows.append(("Fine-tuned", f"validation accuracy {tuned['val_start']:.4f} → {tuned['val_best']:.4f}"))
    return rows


def _software_facts(context: ReportContext) -> Facts:
    rows = [("Store by", f"featx {context.facts['featx']}")]
    if context.model:
        versions = context.model.info["versions"].items()
        rows.append(("Model by", ", ".join(f"{name} {number}" for name, number in versions)))
    return [*rows, ("Report by", f"featx {__version__}")]


def _mean(found: dict[str, Any]) -> str:
    if found["mean"] is None:
        return "none: every class has one image or group"
    return f"{found['mean']:.4f} ± {found['standard_error']:.4f}"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values))
