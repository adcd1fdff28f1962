"""Describe the machine, save results as JSON, and put them into docs/benchmarks.md. All benchmarks use this module."""

import datetime
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")
PACKAGES = ("featx", "torch", "openvino", "ncnn", "scikit-learn", "numpy")
DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"


def say(text: str) -> None:
    """Print one line without delay."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_claim(claims: Mapping[str, Callable[[Path, Path], T]]) -> T:
    """Check the claim that the command line names: ``SCRIPT CLAIM FLOWERS17 WORK``. This creates the folder WORK."""
    script, given = Path(sys.argv[0]).name, sys.argv[1:]
    if len(given) != 3 or given[0] not in claims:
        sys.exit(f"usage: {script} {'|'.join(claims)} FLOWERS17 WORK")
    flowers, work = (Path(folder).resolve() for folder in given[1:])
    work.mkdir(parents=True, exist_ok=True)
    return claims[given[0]](flowers, work)


def machine() -> dict[str, object]:
    """Collect the name of the processor, the number of cores, the versions of packages, and the date."""
    names = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    flags = Path("/proc/cpuinfo").read_text()
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")
    return {
        "processor": names[0] if names else platform.processor(),
        "extensions": [name for name in wanted if f" {name} " in flags],
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def describe_machine(where: dict[str, object]) -> str:
    """Describe a machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())  # type: ignore[attr-defined]
    extensions = ", ".join(where["extensions"])  # type: ignore[arg-type]
    return f"{where['date']}; {where['cores']} cores of {where['processor']} ({extensions}); {versions}."


def save(name: str, results: dict[str, object]) -> None:
    """Write ``docs/benchmarks/NAME.json``."""
    path = DOCS / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def publish(name: str, text: str) -> None:
    """Replace a section of docs/benchmarks.md. The section lies between two comments with its name."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = PAGE.read_text()
    before, rest = page.split(begin)
    PAGE.write_text(before + f"{begin}\n{text.strip()}\n" + end + rest.split(end)[1])


def present(name: str, results: dict[str, object], text: str, draw: Callable[[dict[str, object], Path], None]) -> None:
    """Save the results, draw them, and put the text into docs/benchmarks.md and on the terminal."""
    save(name, results)
    draw(results, DOCS / "benchmarks" / f"{name}.svg")
    publish(name, text)
    say(text)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table. The first column is aligned left, and the others are aligned right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def spread(values: list[float], digits: int = 1) -> str:
    """Format the median of some values, and their range if there is more than one."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
