"""What `import boundseg` adds to Python's start, and how long `boundseg --help` takes.

python benchmarks/start_up.py [--rounds 30]

Every round starts each of them in a fresh process on one core, in an order drawn anew; differences are taken within
a round. Times on the wall count what other processes do on that core; processor times do not (POSIX only).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time

import numpy as np

from boundseg.benchmark.timing import median

BARE = "python -c pass"
COMMANDS = {
    BARE: ["-c", "pass"],
    "import boundseg": ["-c", "import boundseg"],
    "boundseg --help": ["-m", "boundseg", "--help"],
}


def start(arguments: list[str]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="Six or more give intervals.")
    rounds = parser.parse_args().rounds
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # which the processes inherit
    rng, names = np.random.default_rng(0), list(COMMANDS)
    times = np.empty((len(names), rounds, 2))
    for number in range(-1, rounds):  # the first one reads the files from the disk
        for turn in rng.permutation(len(names)):
            seconds = start(COMMANDS[names[turn]])
            if number >= 0:
                times[turn, number] = seconds
    print(f"Python {platform.python_version()}, {rounds} rounds; ms, medians (95 % intervals)")
    for index, clock in enumerate(("wall", "processor")):
        of = dict(zip(names, times[..., index], strict=True))
        for name, seconds in of.items():
            print(f"{clock:9}  {name:30}  {median(seconds).told(1, 1000)}")
        print(f"{clock:9}  {'import boundseg, less the bare':30}  {added(of['import boundseg'], of[BARE])}")


def added(seconds: np.ndarray, bare: np.ndarray) -> str:
    return median(seconds - bare).told(1, 1000)


if __name__ == "__main__":
    main()
