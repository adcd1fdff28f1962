"""Look up how many images per second a device computes, or estimate it from the device's peak rate.

The measurements are in ``devices.json``. To add a measurement, add an entry to its list ``rates``. The entry has the
device, the precision, the source of the measurement and its date. Its value ``backbone`` is the number of images per
second that the backbone computes at 224 px with all five blocks. Its value ``whole`` is the number of images per second
from files to a store; leave it out if it was not measured.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from featx.backbones import CONVOLUTIONS, backbone_flops
from featx.errors import EngineError
from featx.runtime import Compute
from featx.spec import ExtractSpec

THIS_MACHINE = "this machine"
ROUNDS = 3
"""How often the backbone is timed. This is more often than in ``featx probe``, because costs depend on the rate."""


@dataclass(frozen=True)
class Rate:
    """The number of images per second that one device computes.

    ``backbone`` is the rate of the backbone alone. ``whole`` is the rate of all stages from files to a store. It is
    None if it is not known. ``measured`` is False for an estimate. ``source`` says where the numbers come from.
    """

    device: str
    backbone: float
    whole: float | None
    measured: bool
    source: str


def known_devices() -> list[str]:
    """List the devices that have a measurement or a known peak rate."""
    table = _table()
    return sorted({row["device"] for row in table["rates"]} | table["peaks"]["tflops"].keys())


def rate_of(device: str, spec: ExtractSpec) -> Rate:
    """Look up the rate of a device, or estimate it from the peak rate of the device.

    Raises
    ------
    EngineError
        If neither a measurement nor a peak rate is known for this device and precision.
    """
    table = _table()
    names = {name.lower(): name for name in known_devices()}
    name = names.get(device.lower())
    if name is None:
        raise EngineError(f"--devices of plan must be one of {', '.join(names.values())}, got {device!r}; "
                          "or run featx plan on that device with --measure")  # fmt: skip
    work = backbone_flops(spec.size)[max(spec.blocks)] / backbone_flops(table["size"])[5]
    scaled = f"; scaled to {spec.size} px and block {max(spec.blocks)} by operations" if work != 1 else ""
    if row := _find_row(name, spec.precision):
        # Reading and decoding take the same time at any depth, so fewer blocks do not speed up the whole extraction.
        whole = row.get("whole")
        whole = whole and (whole if work <= 1 else whole / work)
        return Rate(name, row["backbone"] / work, whole, not scaled, f"{row['source']}, {row['date']}{scaled}")
    return _estimate(name, spec, work)


def measure(spec: ExtractSpec, compute: Compute) -> Rate:
    """Measure the rate of the backbone on this machine, with random images. The fastest of several rounds counts."""
    from featx.backbones import load_backbone
    from featx.engines import time_depths

    backbone = load_backbone(spec.backbone)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing).select(blocks=(max(spec.blocks),))
    if spec.precision == "int8":  # The speed does not depend on the values of the calibration.
        spec = dataclasses.replace(spec, calibration=(1.0,) * len(CONVOLUTIONS))
    (seconds,) = time_depths(spec, compute.device, compute.engine, ROUNDS).values()
    source = f"random images of {spec.size} px through the backbone on {THIS_MACHINE}, now"
    return Rate(THIS_MACHINE, 1 / seconds, None, True, source)


def _estimate(name: str, spec: ExtractSpec, work: float) -> Rate:
    """Estimate a rate. The device is assumed to reach the same share of its peak rate as the reference device."""
    table = _table()
    peaks, reference = table["peaks"]["tflops"], table["peaks"]["reference"]
    row = _find_row(reference, spec.precision)
    if row is None or spec.precision not in peaks.get(name, {}):
        raise EngineError(f"featx plan has no rate of {name} in {spec.precision}; give another --precision, "
                          "or run featx plan on that device with --measure")  # fmt: skip
    flops = backbone_flops(table["size"])[5]
    share = row["backbone"] * flops / (peaks[reference][spec.precision] * 1e12)
    peak = peaks[name][spec.precision]
    rate = share * peak * 1e12 / (flops * work)
    return Rate(name, rate, None, False, (
        f"{flops * work / 1e9:.1f} GFLOP per image, at {share:.0%} of {peak:,g} TFLOP/s: the share that {reference} "
        f"reached, measured {row['date']}; peak rates from {table['peaks']['source']}"
    ))  # fmt: skip


def _find_row(device: str, precision: str) -> dict[str, Any] | None:
    wanted = (device, precision)
    return next((row for row in _table()["rates"] if (row["device"], row["precision"]) == wanted), None)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads((files("featx.extraction") / "devices.json").read_text())
    return table
