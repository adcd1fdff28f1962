"""``featx info``."""

from typing import Any

import click

from featx.cli.options import echo_json, json_option, printable
from featx.runtime import pluralize

INDENT = "  "


@click.command()
@click.argument("file", type=click.Path())
@json_option
def command(file: str, as_json: bool) -> None:
    """Describe FILE, a store or a model: spec, rows, classes, failures, sizes.

    For a model, the command also says how the head was chosen. --json adds every candidate of the search.

    \b
    Examples:
      featx info photos.h5
      featx info photos.featx --json
    """
    from featx.inspection import describe

    facts = describe(file)
    if as_json:
        echo_json(facts)
    else:
        click.echo("\n".join(_lines(_in_short(facts) if facts["kind"] == "model" else _with_texts(facts))))


def _with_texts(facts: dict[str, Any]) -> dict[str, Any]:
    """Replace the notes on the source and the remarks on images by their texts."""
    if "remarks" in facts:
        from featx.images import describe_remarks

        facts = {**facts, "remarks": describe_remarks(facts["remarks"])}
    if "listing" not in facts:
        return facts
    listing = facts["listing"]
    return {**facts, "listing": {**listing, "notes": [note["text"] for note in listing["notes"]]}}


def _in_short(facts: dict[str, Any]) -> dict[str, Any]:
    """Shorten the facts of a model for a terminal."""
    from featx.models import describe_groups

    spec = facts["spec"]
    short: dict[str, Any] = {name: facts[name] for name in ("kind", "head", "classes")}
    short["features"] = ", ".join(f"{name} ({width})" for name, width in facts["features"].items())
    short["images"] = f"{spec['size']} × {spec['size']}, {spec['resize']}, {spec['interpolation']}, {spec['precision']}"
    short["backbone"] = f"{spec['backbone']} ({spec['backbone_digest'][:12]})"
    if "search" in facts:
        short |= _chosen(facts["search"])
    if "fitted_on" in facts:
        short |= {name: facts[key] for name, key in (("C", "C"), ("fitted on", "fitted_on")) if key in facts}
    if "groups" in facts:
        short["groups"] = describe_groups(facts["groups"])
    if "rare_classes" in facts:
        short |= _untested(facts["rare_classes"])
    if "near_duplicates" in facts:
        found = facts["near_duplicates"]
        short["near-duplicates in other folds"] = f"{found['images']:,} of {pluralize(found['of'], 'image')}"
    if "nested" in facts:
        short["nested cross-validation"] = _mean(facts["nested"])
    for name in ("not_converged", "sample_weight", "calibration", "augmentation"):
        if name in facts:
            short[name.replace("_", " ")] = facts[name]
    if "finetune" in facts:
        tuned = facts["finetune"]
        short["fine-tuned"] = f"validation accuracy {tuned['val_start']:.4f} -> {tuned['val_best']:.4f}"
    if "versions" in facts:
        short["versions"] = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return short | {"bytes": facts["bytes"]}


def _chosen(search: dict[str, Any]) -> dict[str, Any]:
    best = search["best"]
    if best["mean"] is None:
        return {"blocks": best["feature_set"], "normalizer": search["normalize"], "cross-validated": "no"}
    return {
        "blocks": best["feature_set"],
        "normalizer": search["normalize"],
        "chosen": f"{search['rule']} of {pluralize(len(search['rows']), 'candidate')} by {search['folds']} folds"
        + f" × {search['repeats']}" * (search["repeats"] > 1),
        f"cross-validated {search['scoring']}": _mean(best),
    }


def _untested(rare: dict[str, Any]) -> dict[str, Any]:
    """Name the classes that not every fold tested."""
    few = [f"{name} ({count})" for name, count in rare["fewer_than_folds"].items()]
    found = {"never tested": rare["never_tested"], f"fewer images or groups than {rare['folds']} folds": few}
    return {title: ", ".join(names) for title, names in found.items() if names}


def _mean(found: dict[str, Any]) -> str:
    return f"{found['mean']:.4f} ± {found['standard_error']:.4f} (standard error)"


def _lines(facts: dict[str, object], indent: str = "") -> list[str]:
    """Format facts as ``name: value`` lines; nested facts are indented."""
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{printable(name)}:", *_lines(value, indent + INDENT)]
        elif isinstance(value, list) and any(isinstance(item, str) and " " in item for item in value):
            lines += [f"{indent}{name}:", *(f"{indent}{INDENT}{printable(item)}" for item in value)]
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            lines.append(f"{indent}{printable(name)}: {printable(text) or 'none'}")
    return lines
