"""A process that does one case's work again and again, as often as it is asked on its standard input."""

import json
import resource
import sys
import time


def serve(work, **told) -> None:
    """Tells of itself, then for each line `n` the seconds that doing the work takes, by n times; the peak with it.

    Args:
      work: does it once, to its end.
      told: what is known before, such as the parameters' number.
    """
    say(told)
    for line in sys.stdin:
        n = int(line)
        began = time.perf_counter()
        for _ in range(n):
            work()
        seconds = (time.perf_counter() - began) / n
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        say({'seconds': seconds, 'peak_mib': peak})


def say(told) -> None:
    """A line of JSON."""
    print(json.dumps(told), flush=True)
