"""featx plan: rates from the table, estimated and measured, and the time, disk and money computed from them."""

import json
from typing import Any

import pytest
from click.testing import CliRunner

from featx.cli.group import main
from featx.errors import EngineError, SpecError
from featx.extraction import AssemblyOptions
from featx.extraction.device_rates import known_devices
from featx.extraction.resource_plan import parse_count, parse_devices, plan
from featx.spec.extract_spec import ExtractSpec

BF16 = ExtractSpec(precision="bf16")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["plan", *arguments])


@pytest.mark.parametrize(("text", "count"), [("1360", 1360), ("250k", 250_000), ("10M", 10**7), ("1.5m", 1_500_000)])
def test_counts_are_parsed(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-3", "ten", "10MB"])
def test_a_text_that_is_not_a_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number above 0, such as 1360, 250k or 10M"):
        parse_count(text)
    assert run("--images", text, "--devices", "H200").exit_code == 2


def test_devices_are_parsed() -> None:
    assert parse_devices("8xH100") == (8, "H100")
    assert parse_devices("H200") == (1, "H200")
    assert parse_devices("2x xeon-2core") == (2, "xeon-2core")


@pytest.mark.parametrize("text", ["0xH100", "8x", "8 H100", "1.5xH100"])
def test_a_text_that_is_not_devices_is_refused(text: str) -> None:
    with pytest.raises((SpecError, EngineError), match="--devices of plan must be"):
        plan(1, devices=text)


def test_an_unknown_device_or_precision_is_an_error() -> None:
    with pytest.raises(
        EngineError, match=r"--devices of plan must be one of A100, .*got 'abacus'; or run featx plan on"
    ):
        plan(1, devices="abacus")
    with pytest.raises(EngineError, match="featx plan has no rate of A100 in int8; give another --precision"):
        plan(1, ExtractSpec(precision="int8"), devices="A100")


def test_twice_as_many_devices_take_half_the_time() -> None:
    one, two = plan(10**6, BF16, devices="H200", price=4), plan(10**6, BF16, devices="2xh200", price=4)
    assert one.rate.measured
    assert one.seconds == 2 * two.seconds == 10**6 / one.rate.backbone
    assert one.whole_seconds is not None
    assert one.cost == two.cost == pytest.approx(4 * one.whole_seconds / 3600)


def test_an_estimate_is_the_peak_rate_times_the_measured_share() -> None:
    reference, other = plan(1000, BF16, devices="H200").rate, plan(1000, BF16, devices="A100").rate
    assert not other.measured
    assert other.whole is None
    assert other.backbone == pytest.approx(reference.backbone * 312 / 989)
    assert "30.7 GFLOP per image, at 46% of 312 TFLOP/s" in other.source


def test_rates_of_other_sizes_and_blocks_are_scaled_by_operations() -> None:
    rate, large = (
        plan(1, BF16, devices="H200").rate,
        plan(1, ExtractSpec(precision="bf16", size=448), devices="H200").rate,
    )
    shallow = plan(1, ExtractSpec(precision="bf16", blocks=(1, 2)), devices="H200").rate
    assert large.backbone == pytest.approx(rate.backbone / 4)
    assert not large.measured
    assert shallow.backbone == pytest.approx(rate.backbone / 0.307, rel=0.01)
    assert shallow.whole == rate.whole


def test_disk_depends_on_layout_dtype_and_views() -> None:
    copy, virtual = (
        plan(1000, BF16, devices="H200", assembly=AssemblyOptions(assemble=how)) for how in ("copy", "virtual")
    )
    assert copy.disk == virtual.disk == virtual.peak_disk == copy.peak_disk / 2
    half = plan(1000, BF16, devices="H200", assembly=AssemblyOptions(dtype="float16"))
    assert copy.disk - half.disk == 1000 * 2 * BF16.width
    assert plan(1000, ExtractSpec(n_views=2, augment="flip"), devices="xeon-2core").disk == 2 * copy.disk
    pooled, both = (plan(1000, ExtractSpec(blocks=(5,), pools=pools, precision="bf16"), devices="H200").disk
                    for pools in (("avg",), ("avg", "flat")))  # fmt: skip
    assert both - pooled == pytest.approx(1000 * 25_088 * 4 * 0.11)
    # Rows of more than a megabyte are not compressed.
    assert plan(1000, ExtractSpec(blocks=(1,), pools=("flat",)), devices="H200").disk > 1000 * 64 * 112**2 * 4


def test_every_known_device_has_a_plan() -> None:
    for device in known_devices():
        precision = "fp32" if device.endswith("-2core") else "bf16"
        assert plan(10**6, ExtractSpec(precision=precision), devices=device).seconds > 0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_this_machine_is_measured(oxford: object, precision: str) -> None:
    size = ("--size", "32", "--blocks", "1", "--precision", precision)
    done = run("--images", "1000", *size, "--measure", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["rate"]["measured"]
    assert found["seconds"] == pytest.approx(1000 / found["rate"]["backbone"])


def test_the_command_tells_measured_from_estimated_rates() -> None:
    done = run("--images", "10M", "--devices", "8xA100", "--price", "2.5")
    assert done.exit_code == 0
    assert "10,000,000 at 224 px, bf16, 1,472 columns" in done.output
    assert "8 × A100" in done.output
    assert "estimated: 30.7 GFLOP" in done.output
    assert "cost     at least 1.48, for the backbone alone\n" in done.output
    measured = run("--images", "10M", "--devices", "H200", "--price", "2.5").output
    assert "measured: make bench-gpu" in measured
    assert "cost     8.71\n" in measured


def test_a_cost_of_the_backbone_alone_is_a_lower_bound() -> None:
    estimated, measured = (plan(10**7, BF16, devices=name, price=2.5) for name in ("8xH100", "8xH200"))
    assert (estimated.cost_at_least, measured.cost_at_least) == (True, False)
    assert estimated.cost == pytest.approx(8 * 2.5 * estimated.seconds / 3600)
    assert not plan(10**7, BF16, devices="8xH100").cost_at_least


@pytest.mark.parametrize("arguments", [(), ("--devices", "H200", "--measure")])
def test_exactly_one_of_devices_and_measure_is_required(arguments: tuple[str, ...]) -> None:
    done = run("--images", "10M", *arguments)
    assert done.exit_code == 2
    assert "featx plan takes one of --devices and --measure" in done.output


def test_views_and_storage_have_the_options_of_extract() -> None:
    assert "10 at 224 px" in run("--images", "10", "--n-views", "8", "--devices", "H200").output
    done = run("--images", "10", "--devices", "H200", "--assemble", "virtual", "--store-dtype", "float16")
    assert done.exit_code == 1
    assert "--store-dtype float16 needs --assemble copy" in done.output
