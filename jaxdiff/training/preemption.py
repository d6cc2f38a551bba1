"""The notice that this machine is about to be taken away: SIGTERM, as clusters send it."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def listen() -> Iterator[Callable[[], bool]]:
    """Yields a function to ask before the first step and after each whether to save and stop there.

    In a job of many processes a notice to any of them, from its start on, reaches all, and all stop
    at the same time of asking, by JAX's preemption service; all must ask equally often.
    """
    noticed = threading.Event()
    if jax.process_count() > 1:
        times = itertools.count(1)  # 0 is what the service takes for "no notice yet"

        def ask():
            if multihost_utils.reached_preemption_sync_point(next(times)):
                noticed.set()
            return noticed.is_set()

        yield ask
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python gives signals to the main thread alone
        return
    before = signal.signal(signal.SIGTERM, lambda *_: noticed.set())
    try:
        yield noticed.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
