"""A sampler as one portable program: StableHLO, with the parameters inside as constants.

It needs neither the code that made it nor its libraries, only jax (and flatbuffers, which jax reads
it by), on any of the platforms that it was made for and with any batch size.

JAX promises that an artefact runs on versions of jax (what counts is when jaxlib was built) from 3
weeks older to 6 months newer than the one that wrote it; later ones may refuse it as expired. So
keep the checkpoint too, and export again now and then.
https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export

PLATFORMS = ('cpu', 'cuda', 'tpu', 'rocm')
LARGEST = 2_000_000_000  # bytes of parameters: an artefact as a whole must stay below 2 GiB


def serialize(
    draw: Callable[[Any, dict, Array], Array],
    params: Any,
    labels: bool,
    platforms: Sequence[str] = PLATFORMS[:3],
) -> bytes:
    """The bytes of a sampler: (key data uint32 [b, 2], label int32 [b]) -> what `draw` gives.

    Args:
      draw: (params, cond, keys [b]) -> samples [b, …], pure; `cond` is {'label': [b]} or {}.
      params: put into the program.
      labels: whether the sampler takes labels; without, its only input is the key data.
      platforms: of `PLATFORMS`; none of them needs to be there.

    `jax.export.deserialize(these).call` is the sampler. Key data are those of JAX's usual keys,
    `jax.random.key_data(keys)`, of the generator threefry2x32.
    """
    params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), params)  # wherever they lie

    def sampler(key_data, label=None):
        keys = jax.random.wrap_key_data(key_data, impl='threefry2x32')
        return draw(params, {} if label is None else {'label': label}, keys)

    (b,) = export.symbolic_shape('b')
    inputs = [jax.ShapeDtypeStruct((b, 2), jnp.uint32)]
    inputs += [jax.ShapeDtypeStruct((b,), jnp.int32)] * labels
    return bytes(export.export(jax.jit(sampler), platforms=platforms)(*inputs).serialize())


def example(name: str, classes: int = 0, num: int = 16) -> list[str]:
    """Six lines of Python that run the sampler in the file `name` with jax alone."""
    label = f', np.arange({num}, dtype=np.int32) % {classes}' if classes else ''
    return [
        'import jax, numpy as np',
        'from jax import export',
        f'draw = jax.jit(export.deserialize(bytearray(open({name!r}, "rb").read())).call)',
        f'keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange({num}))',
        f'images = np.asarray(draw(jax.random.key_data(keys){label}))',
        'np.save("samples.npy", images)',
    ]
