"""The exponential moving average of the parameters."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def update(ema: Any, params: Any, step: Array, decay: float, warmup: bool = True) -> Any:
    """ema ← d · ema + (1 − d) · params after `step` earlier updates.

    d is `decay`, and with `warmup` at most (1 + step) / (10 + step), so that a short run's average
    forgets its random start (TensorFlow's ExponentialMovingAverage, num_updates).
    """
    d = jnp.minimum(decay, (1 + step) / (10 + step)) if warmup else jnp.asarray(decay)
    return jax.tree.map(lambda e, p: e + (1 - d).astype(e.dtype) * (p - e), ema, params)
