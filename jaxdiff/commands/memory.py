"""What to do where the devices have too little memory."""

import contextlib
from collections.abc import Iterator

import jax

ADVICE = (
    'give a smaller train.batch_size (of samples, sample.batch_size) or more train.accumulate, net.remat=True, '
    "net.dtype='bfloat16', or more devices with train.parallel='mesh' and train.fsdp"
)


@contextlib.contextmanager
def advised() -> Iterator[None]:
    """Turns XLA's many lines about too little memory into one, with advice.

    Raises: MemoryError.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise MemoryError(f'{str(error).splitlines()[0].rstrip(".")}: {ADVICE}') from None
