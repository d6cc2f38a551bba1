"""The notice that this machine is about to be taken away: SIGTERM, as clusters send it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def listen() -> Iterator[Callable[[int], bool]]:
    """Yields a function to ask after each step whether to save and stop at it.

    In a job of many processes a notice to any of them reaches all, and all stop at the same step,
    by JAX's preemption service; each step must be asked about, in order, by all.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False  # Python gives signals to the main thread alone
        return
    noticed = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: noticed.set())
    try:
        yield lambda step: noticed.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
