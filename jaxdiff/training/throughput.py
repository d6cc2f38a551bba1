"""How fast a run is, and how near to what its devices can do."""

import time
from collections.abc import Callable

import jax

# Dense bfloat16 matrix peak in FLOP/s of one device as JAX counts them, from the vendors' data sheets.
_PEAK = {
    'TPU v3': 61.5e12,
    'TPU v4': 275e12,
    'TPU v5 lite': 197e12,
    'TPU v5e': 197e12,
    'TPU v5': 459e12,
    'TPU v5p': 459e12,
    'TPU v6 lite': 918e12,
    'TPU v6e': 918e12,
    'NVIDIA A100-SXM4-40GB': 312e12,
    'NVIDIA A100-SXM4-80GB': 312e12,
    'NVIDIA H100 80GB HBM3': 989e12,
    'NVIDIA H200': 989e12,
}


class Meter:
    """Counts steps, and the time that they wait for data, between two readings.

    `flops()` counts the operations of one global step, None where it can't; asked only where the peak
    is known.
    """

    def __init__(self, batch_size: int, flops: Callable[[], float | None]):
        peak = _PEAK.get(jax.local_devices()[0].device_kind)
        counted = flops() if peak else None
        self._batch_size = batch_size
        self._share = counted and counted / (peak * jax.device_count())  # at one step a second
        self.restart()

    def restart(self) -> None:
        """Begins to measure anew."""
        self._began, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def wait(self, get: Callable[[], dict]) -> dict:
        """Calls `get` for the next step's batch, counting the time it takes as waiting."""
        asked = time.perf_counter()
        batch = get()
        self._waited += time.perf_counter() - asked
        self._steps += 1
        return batch

    def read(self) -> dict[str, float]:
        """Rates since the last restart; the share of peak only where the device's peak is known."""
        elapsed = time.perf_counter() - self._began
        rate = self._steps / elapsed
        numbers = {
            'steps_per_second': rate,
            'examples_per_second': rate * self._batch_size,
            'data_wait_share': self._waited / elapsed,
        }
        if self._share:
            numbers['flop_share_of_peak'] = self._share * rate
        return numbers
