"""Stage timings: rates, the bottleneck and the advice."""

import os
import subprocess
import sys

import pytest

from featx.engines.timings import ADVICE, StageTimings
from featx.images.loading import LoadedImage


@pytest.mark.parametrize("stage", list(ADVICE))
def test_the_bottleneck_is_the_stage_with_the_lowest_rate(stage):
    timings = StageTimings(workers=1, images=10, seconds={**dict.fromkeys(ADVICE, 1.0), stage: 10.0})
    assert timings.rates[stage] == 1.0
    assert timings.bottleneck == stage
    assert timings.advice.startswith("the bottleneck is " + {"computing": "the backbone"}.get(stage, stage))


def test_rates_count_the_threads_of_a_stage():
    timings = StageTimings(workers=2)
    timings.add_images([LoadedImage("a.png", seconds=(1.0, 2.0, 4.0)), LoadedImage("b.png", seconds=(1.0, 2.0, 4.0))])
    timings.seconds["computing"] = 4.0
    assert timings.rates["reading"] == 2.0
    assert timings.rates["computing"] == 0.5
    assert timings.rates["decoding"] in {0.5, 1.0}  # with one core, or more
    assert "writing" not in timings.rates


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to cores")
def test_cores_are_those_that_the_process_is_bound_to():
    code = ("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
            "from featx.engines.timings import StageTimings; print(StageTimings().cores)")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_without_timings_there_is_no_advice():
    assert (StageTimings().rates, StageTimings().bottleneck, StageTimings().advice) == ({}, "", "")


@pytest.mark.parametrize(
    ("precision", "on_gpu", "advice"),
    [
        ("fp32", False, "use a GPU, a faster --precision (int8 if the CPU has VNNI), "),
        ("bf16", False, "use a GPU, a faster --precision (int8 if the CPU has VNNI), "),
        ("int8", False, "use a GPU, fewer"),
        ("auto", False, "use a GPU, fewer"),
        ("fp32", True, "use a faster --precision (bf16), "),
        ("bf16", True, "use fewer"),
        ("int8", True, "use fewer"),
    ],
)
def test_advice_does_not_recommend_what_is_already_used(precision, on_gpu, advice):
    seconds = dict.fromkeys(ADVICE, 0.0) | {"computing": 1.0}
    timings = StageTimings(images=1, seconds=seconds, precision=precision, on_gpu=on_gpu)
    assert advice in timings.advice
    assert timings.advice.endswith("fewer --blocks, or a smaller --size")
