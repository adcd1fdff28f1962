"""``python -m fuzz [READER …] [--count N] [--first N] [--seconds S] [--keep FOLDER]``."""

import argparse
import sys
from pathlib import Path

from fuzz.readers import READERS, make_input
from fuzz.run import attack


def main() -> int:
    """Attack each reader, print the findings and keep their inputs; return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"one of {', '.join(READERS)} (default: all)")
    parser.add_argument("--count", type=int, default=10**9, help="inputs per reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seconds", type=float, default=1e9, help="seconds per reader")
    parser.add_argument("--timeout", type=float, default=20, help="seconds after which an input counts as a hang")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    options = parser.parse_args()
    found = False
    for reader in options.readers or READERS:
        result = attack(reader, options.first, options.count, options.timeout, options.seconds)
        sys.stdout.write(f"{result}\n")
        sys.stdout.flush()
        found |= bool(result.findings)
        for number, text in result.findings.items() if options.keep else ():
            options.keep.mkdir(parents=True, exist_ok=True)
            data, suffix = make_input(reader, number)
            (options.keep / f"{reader}-{number}{suffix}").write_bytes(data)
            (options.keep / f"{reader}-{number}.txt").write_text(text)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
