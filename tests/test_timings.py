import pytest

from featx.engines.timings import ADVICE, Timings
from featx.images.loading import Loaded


@pytest.mark.parametrize("stage", list(ADVICE))
def test_the_stage_of_the_lowest_rate_holds_it_up(stage):
    timings = Timings(workers=1, images=10, seconds={**dict.fromkeys(ADVICE, 1.0), stage: 10.0})
    assert timings.rates[stage] == 1.0
    assert timings.bottleneck == stage
    assert timings.advice.startswith(stage) or (stage == "computing" and timings.advice.startswith("the trunk"))


def test_workers_share_what_is_done_in_threads():
    timings = Timings(workers=2)
    timings.loaded([Loaded("a.png", seconds=(1.0, 2.0, 4.0)), Loaded("b.png", seconds=(1.0, 2.0, 4.0))])
    timings.seconds["computing"] = 4.0
    assert timings.rates["reading"] == 2.0
    assert timings.rates["computing"] == 0.5
    assert timings.rates["decoding"] in {0.5, 1.0}  # one core, or more
    assert "writing" not in timings.rates


def test_nothing_timed_has_no_advice():
    assert (Timings().rates, Timings().bottleneck, Timings().advice) == ({}, "", "")


@pytest.mark.parametrize(("precision", "named"), [("fp32", True), ("bf16", True), ("int8", False), ("auto", False)])
def test_a_faster_precision_is_named_where_there_is_one(precision, named):
    timings = Timings(images=1, seconds=dict.fromkeys(ADVICE, 0.0) | {"computing": 1.0}, precision=precision)
    assert ("a faster --precision (int8)" in timings.advice) == named
    assert timings.advice.endswith("fewer --blocks or a smaller --size")
