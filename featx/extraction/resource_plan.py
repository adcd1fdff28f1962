"""Plan: what an extraction past this machine takes in time, disk, memory and money, before it is begun."""

import re
from dataclasses import dataclass

from featx.errors import SpecError
from featx.extraction.assembly import AssemblyOptions
from featx.extraction.device_rates import Rate, known_devices, measure, rate_of
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import feature_bytes

__all__ = ["Plan", "Rate", "known_devices", "parse_count", "parse_devices", "plan"]

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
ROW_BYTES = 110
"""Of path, digest, label, split and checksums in a store: an allowance, not a measurement."""
FLAT_SHARE = 0.11
"""What deflate leaves of block 5 of photographs, flat, as ``benchmarks/stores.py compression`` measures it."""
LISTING_BYTES = 320
"""Of memory an image while a manifest is listed and a store assembled: an allowance, not a measurement."""
PROCESS_BYTES = 2 << 30
"""Of a process with the backbone, which docs/benchmarks.md measures to be 0.6 to 2.0 GB on a processor."""


@dataclass(frozen=True)
class Plan:
    """What an extraction takes: seconds, bytes and, given a price an hour of a device, a cost.

    ``seconds`` are those of the backbone on all devices, ``whole_seconds`` of the whole way where that was measured, one
    process a device; where it was not, the cost is of the backbone alone, and ``cost_at_least`` true. ``disk`` is what the
    store takes in the end, ``peak_disk`` while it is assembled. ``memory`` is of the process that lists and assembles.
    """

    images: int
    devices: int
    rate: Rate
    seconds: float
    whole_seconds: float | None
    disk: int
    peak_disk: int
    memory: int
    cost: float | None
    cost_at_least: bool


def plan(
    images: int,
    spec: ExtractSpec | None = None,
    compute: Compute | None = None,
    *,
    devices: str | None = None,
    price: float | None = None,
    assembly: AssemblyOptions | None = None,
) -> Plan:
    """Reckon what extracting so many images takes.

    Parameters
    ----------
    images : int
    spec : ExtractSpec, optional
        Of the extraction; its size, blocks, pools, precision and views count.
    compute : Compute, optional
        Engine and device that are measured on this machine.
    devices : str, optional
        ``8xH100``: how many of what. None measures this machine.
    price : float, optional
        Of one device for an hour, in any money.
    assembly : AssemblyOptions, optional
        Layout and dtype of the store; by default a copy in float32.

    Raises
    ------
    SpecError
        If ``devices`` is not like ``8xH100``, or no store is kept so.
    EngineError
        If the table knows no rate of the device.
    """
    spec, compute, assembly = spec or ExtractSpec(), compute or Compute(), assembly or AssemblyOptions()
    spec.check_resolved("a plan")
    count, name = parse_devices(devices) if devices else (1, "")
    rate = rate_of(name, spec) if name else measure(spec, compute.device, compute.engine)
    rows = images * spec.n_views
    seconds = rows / (rate.backbone * count)
    whole = rows / (rate.whole * count) if rate.whole else None
    itemsize = 2 if assembly.dtype == "float16" else 4
    parts, store = (rows * ROW_BYTES + feature_bytes(spec.widths, rows, each, FLAT_SHARE) for each in (4, itemsize))
    disk = parts if assembly.layout == "virtual" else store
    peak_disk = parts if assembly.layout == "virtual" else parts + disk
    cost = None if price is None else price * count * (whole or seconds) / 3600
    memory = PROCESS_BYTES + LISTING_BYTES * rows
    return Plan(images, count, rate, seconds, whole, disk, peak_disk, memory, cost, cost is not None and whole is None)


def parse_count(text: str) -> int:
    """``10M``, ``250k``, ``1360``: a number above 0; ``ValueError`` for another text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().replace(",", "").lower())
    number = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if number < 1:
        raise ValueError(f"must be a number above 0, such as 1360, 250k or 10M, got {text!r}")
    return number


def parse_devices(text: str) -> tuple[int, str]:
    """How many and which: ``8xH100`` or ``H100``."""
    found = re.fullmatch(r"(?:([1-9]\d*)\s*[x×*]\s*)?(\S+)", text.strip())
    if not found or re.fullmatch(r"[\d.]+x.*", found[2]):
        raise SpecError(f"--devices of plan must be like 8xH100, got {text!r}")
    return int(found[1] or 1), found[2]
