"""What a contender's process does: take an order a line from standard input, run it, answer with seconds and memory.

An order is JSON: ``{"what": "backbone" | "whole", "images": n}``. ``backbone`` runs the network over n images that lie in
memory, ``whole`` goes from n files to a closed HDF5 file. Only the standard library is needed here, since contenders
have environments of their own.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 16
SIZE = 224


def peak_mb() -> int:
    """The most memory that this process has had; getrusage would count its parent's before the start."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def serve(backbone: Callable[[int], object], whole: Callable[[list[Path], Path], object]) -> None:
    """Answer orders until standard input ends; the arguments are a file that lists photographs, and a folder."""
    photos = [Path(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    output = Path(sys.argv[2])
    for line in sys.stdin:
        order = json.loads(line)
        # A listing is gone through again from its start if more is asked for than there is.
        count = order["images"]
        began = time.perf_counter()
        if order["what"] == "backbone":
            backbone(count)
        else:
            whole([photos[number % len(photos)] for number in range(count)], output)
        seconds = time.perf_counter() - began
        answer = {"seconds": seconds, "peak_mb": peak_mb()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
