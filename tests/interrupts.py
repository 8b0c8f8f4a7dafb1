"""Interrupt calls over `processes` at random microseconds, once and twice, and see that the next call is right.

    python tests/interrupts.py --seconds 60 --seed 1

A program of its own, as what is interrupted would otherwise be the tests. It prints what happened as JSON, and ends
with 1 where a call went wrong, hung, or left a process behind.
"""

import argparse
import contextlib
import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np

from fcnn.training import workers

# It reads "microseconds until the first signal, and from that to the second or -1", and sends them.
SENDER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
def wait(microseconds):
    end = time.perf_counter() + microseconds / 1e6
    while time.perf_counter() < end:
        pass
for line in sys.stdin:
    first, second = map(int, line.split())
    wait(first)
    os.kill(int(sys.argv[1]), signal.SIGINT)
    if second >= 0:
        wait(second)
        os.kill(int(sys.argv[1]), signal.SIGINT)
"""


class Interrupts:
    """Interrupts at random moments, to this process or to its group as a terminal sends them."""

    def __init__(self, rng, target):
        self._rng, self._due = rng, 0.0
        self._sender = subprocess.Popen([sys.executable, "-c", SENDER, str(target)], stdin=subprocess.PIPE)

    def send(self, within):
        first = self._rng.randrange(within)
        second = self._rng.randrange(2000) if self._rng.random() < 0.3 else -1
        self._due = time.monotonic() + (first + max(second, 0)) / 1e6 + 0.004
        os.write(self._sender.stdin.fileno(), b"%d %d\n" % (first, second))

    def wait(self):
        while time.monotonic() < self._due:
            time.sleep(0.0005)

    def settle(self):
        """Wait until none is on its way, whatever comes."""
        while True:
            try:
                return self.wait()
            except KeyboardInterrupt:
                continue

    def close(self):
        self._sender.stdin.close()
        self._sender.wait()


def product(x, k):
    return x * k


def product_again(x, k):  # another function needs other workers
    return x * k


def call(map_fn, function, x, base):
    found = list(map_fn(function, [x] * 4, range(base, base + 4)))
    for k, array in enumerate(found, base):
        if not np.array_equal(array, x * k):
            raise AssertionError("a wrong result")


def attack(seconds, seed, size):
    """What happened, by how often."""
    rng, counts = random.Random(seed), Counter()
    x = np.arange(size, dtype=np.float64)
    interrupts = Interrupts(rng, -os.getpid() if seed % 2 else os.getpid())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        base = rng.randrange(1000)
        try:
            if rng.random() < 0.4:  # opening and closing are within reach, too
                try:
                    interrupts.send(rng.choice([3000, 20_000]))
                    with workers.processes(3) as map_fn:
                        for k in range(5):
                            call(map_fn, product, x, base + k)
                        interrupts.wait()
                except KeyboardInterrupt:
                    counts["interrupted blocks"] += 1
            else:
                with workers.processes(3) as map_fn:
                    for _ in range(20):
                        function = rng.choice([product, product_again])
                        try:
                            interrupts.send(rng.choice([500, 3000, 12_000]))
                            for k in range(6):
                                call(map_fn, function, x, base + k)
                            interrupts.wait()
                        except KeyboardInterrupt:
                            counts["interrupted calls"] += 1
                        interrupts.settle()
                        call(map_fn, function, x, base)
                        counts["right calls after it"] += 1
            interrupts.settle()
            with workers.processes(2) as map_fn:
                call(map_fn, product, x, base)
            counts["right blocks after it"] += 1
        except KeyboardInterrupt:
            counts["late"] += 1  # the sender was not given a core in time
        except Exception as error:
            counts[f"wrong: {type(error).__name__}: {error}"] += 1
        interrupts.settle()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.close()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
        counts["wrong: a process is left"] += 1
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0, help="an odd one interrupts the whole group, as a terminal does")
    parser.add_argument("--numbers", type=int, default=2000, help="in each array (default 2000)")
    parser.add_argument("--room", type=int, default=workers._ROOM, help="bytes of shared memory for a message")
    arguments = parser.parse_args()
    workers._ROOM = arguments.room
    faulthandler.dump_traceback_later(arguments.seconds + 60, exit=True)  # a hang
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    counts = attack(arguments.seconds, arguments.seed, arguments.numbers)
    print(json.dumps(counts))
    return int(any(name.startswith("wrong") for name in counts))


if __name__ == "__main__":
    sys.exit(main())
