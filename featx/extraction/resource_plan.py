"""Estimate the time, disk, memory and money that an extraction takes, before it is started."""

import re
from dataclasses import dataclass

from featx.errors import SpecError
from featx.extraction.assembly_options import AssemblyOptions
from featx.extraction.device_rates import Rate, measure, rate_of
from featx.runtime import Compute
from featx.spec import ExtractSpec
from featx.store import feature_bytes

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
ROW_BYTES = 110
"""Bytes that the path, digest, label, split and checksums of one row take in a store. This is a rough estimate."""
FLAT_SHARE = 0.11
"""The size of compressed flat features of block 5, divided by their size before compression. It was measured on
photographs (``benchmarks/stores.py compression``)."""
LISTING_BYTES = 320
"""Bytes of memory per image that are needed to list a manifest and to assemble a store. This is a rough estimate."""
PROCESS_BYTES = 2 << 30
"""Bytes of memory that a process with a backbone takes. According to docs/benchmarks.md, it takes 0.6 to 2.0 GB on
CPUs."""


@dataclass(frozen=True)
class Plan:
    """The time, disk, memory and money that an extraction takes.

    Attributes
    ----------
    images, devices : int
        Number of images, and number of devices.
    rate : Rate
        Images per second of one device.
    seconds : float
        Time in seconds that the backbone takes if all devices work at the same time.
    whole_seconds : float or None
        Time in seconds from files to a store, with one process per device. It is None if that rate is not known.
    disk, peak_disk : int
        Bytes that the store takes on disk, and bytes that are needed on disk while it is assembled.
    memory : int
        Bytes of memory of the process that lists the images and assembles the store.
    cost : float or None
        The cost in the currency of the price. It is None without a price.
    cost_at_least : bool
        True if the cost includes only the time of the backbone.
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
    """Estimate the time, disk, memory and money that an extraction takes.

    Parameters
    ----------
    images : int
        Number of images.
    spec : ExtractSpec, optional
        What is extracted. The estimate depends on its size, blocks, pools, precision and views.
    compute : Compute, optional
        The engine and device to measure on this machine.
    devices : str, optional
        Number and kind of the devices, such as ``8xH100``. Without it, the rate of this machine is measured.
    price : float, optional
        Price of one device for one hour, in any currency.
    assembly : AssemblyOptions, optional
        How the store is assembled, and its dtype. The default is ``copy`` in float32.

    Returns
    -------
    Plan

    Raises
    ------
    SpecError
        If ``devices`` is not like ``8xH100``, or if the precision is ``auto``.
    EngineError
        If no rate of the device is known.
    """
    spec, compute, assembly = spec or ExtractSpec(), compute or Compute(), assembly or AssemblyOptions()
    compute.check_unused("plan", "batch_size", "workers", "executor", "shard")
    spec.check_resolved("a plan")
    count, name = parse_devices(devices) if devices else (1, "")
    rate = rate_of(name, spec) if name else measure(spec, compute)
    rows = images * spec.n_views
    seconds = rows / (rate.backbone * count)
    whole = rows / (rate.whole * count) if rate.whole else None
    itemsize = 2 if assembly.dtype == "float16" else 4
    parts, store = (rows * ROW_BYTES + feature_bytes(spec.widths, rows, each, FLAT_SHARE) for each in (4, itemsize))
    virtual = assembly.assemble == "virtual"
    cost = None if price is None else price * count * (whole or seconds) / 3600
    return Plan(
        images=images,
        devices=count,
        rate=rate,
        seconds=seconds,
        whole_seconds=whole,
        disk=parts if virtual else store,
        peak_disk=parts if virtual else parts + store,
        memory=PROCESS_BYTES + LISTING_BYTES * rows,
        cost=cost,
        cost_at_least=cost is not None and whole is None,
    )


def parse_count(text: str) -> int:
    """Read a count such as ``10M``, ``250k`` or ``1360``. Raise ``ValueError`` if the text is not a number above 0."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().replace(",", "").lower())
    number = round(float(found[1]) * UNITS[found[2]]) if found else 0
    if number < 1:
        raise ValueError(f"must be a number above 0, such as 1360, 250k or 10M, got {text!r}")
    return number


def parse_devices(text: str) -> tuple[int, str]:
    """Read the number and kind of devices from a text such as ``8xH100``. Raise ``SpecError`` for any other text."""
    found = re.fullmatch(r"(?:([1-9]\d*)\s*[x×*]\s*)?(\S+)", text.strip())
    if not found or re.fullmatch(r"[\d.]+x.*", found[2]):
        raise SpecError(f"--devices of plan must be like 8xH100, got {text!r}")
    return int(found[1] or 1), found[2]
