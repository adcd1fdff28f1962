"""How many images a second a device's backbone computes: measured, from the package's table, or by arithmetic.

To extend the table ``devices.json``, add a line to ``rates``: device, precision, ``backbone`` images/s at 224 px with all
five blocks, ``whole`` images/s from files to a store if that was measured too, where it was measured, and when.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from featx.backbones import CONVOLUTIONS, backbone_flops
from featx.errors import EngineError
from featx.spec import ExtractSpec

HERE = "this machine"
ROUNDS = 3
"""How often the backbone is timed: more than by a probe, since hours and money are reckoned from it."""


@dataclass(frozen=True)
class Rate:
    """Images a second of one device, of the backbone alone and, if that is known, of the whole way from files to a store.

    ``measured`` tells a measurement from arithmetic; ``source`` says of what, where and when, or how it was reckoned.
    """

    device: str
    backbone: float
    whole: float | None
    measured: bool
    source: str


def known_devices() -> list[str]:
    """The devices that the table knows something of."""
    table = _table()
    return sorted({row["device"] for row in table["rates"]} | table["peaks"]["tflops"].keys())


def rate_of(device: str, spec: ExtractSpec) -> Rate:
    """The rate of a device of the table, or an estimate from its peak; ``EngineError`` if neither is known."""
    table = _table()
    names = {name.lower(): name for name in known_devices()}
    name = names.get(device.lower())
    if name is None:
        raise EngineError(f"--devices of plan must be of {', '.join(names.values())}, got {device!r}; "
                          "run it there with --measure")  # fmt: skip
    work = backbone_flops(spec.size)[max(spec.blocks)] / backbone_flops(table["size"])[5]
    scaled = f"; scaled to {spec.size} px and block {max(spec.blocks)} by operations" if work != 1 else ""
    if row := _row(name, spec.precision):
        # Reading and decoding cost the same at any depth, so that the whole way gains nothing but by a measurement.
        whole = row.get("whole")
        whole = whole and (whole if work <= 1 else whole / work)
        return Rate(name, row["backbone"] / work, whole, not scaled, f"{row['source']}, {row['date']}{scaled}")
    return _estimate(name, spec, work)


def _estimate(name: str, spec: ExtractSpec, work: float) -> Rate:
    """By the share of its peak that the reference device reaches."""
    table = _table()
    peaks, reference = table["peaks"]["tflops"], table["peaks"]["reference"]
    row = _row(reference, spec.precision)
    if row is None or spec.precision not in peaks.get(name, {}):
        raise EngineError(f"plan knows no rate of {name} in {spec.precision}; give another --precision, "
                          "or run it there with --measure")  # fmt: skip
    flops = backbone_flops(table["size"])[5]
    share = row["backbone"] * flops / (peaks[reference][spec.precision] * 1e12)
    peak = peaks[name][spec.precision]
    rate = share * peak * 1e12 / (flops * work)
    return Rate(name, rate, None, False, (
        f"{flops * work / 1e9:.1f} GFLOP an image, at {share:.0%} of {peak:,g} TFLOP/s: the share that {reference} "
        f"reaches, measured {row['date']}; the peaks are {table['peaks']['source']}"
    ))  # fmt: skip


def measure(spec: ExtractSpec, device: str, engine: str) -> Rate:
    """The backbone's rate on this machine, the best of some rounds on made images."""
    from featx.backbones import load_backbone
    from featx.engines import time_depths

    backbone = load_backbone(spec.backbone)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing).select(blocks=(max(spec.blocks),))
    if spec.precision == "int8":  # How fast it is does not depend on the values.
        spec = dataclasses.replace(spec, calibration=(1.0,) * len(CONVOLUTIONS))
    (seconds,) = time_depths(spec, device, engine, ROUNDS).values()
    return Rate(HERE, 1 / seconds, None, True, f"made images of {spec.size} px through the backbone on {HERE}, now")


def _row(device: str, precision: str) -> dict[str, Any] | None:
    wanted = (device, precision)
    return next((row for row in _table()["rates"] if (row["device"], row["precision"]) == wanted), None)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((files("featx.extraction") / "devices.json").read_text())
    return table
