import threading
import time

import jax
import numpy as np
import pytest

from jaxdiff import data


def test_batches_come_in_order_and_on_the_device():
    batches = data.prefetch(iter([{'x': np.full(3, i)} for i in range(5)]), jax.device_put)
    values = [batch['x'] for batch in batches]
    assert all(isinstance(x, jax.Array) for x in values)
    assert [int(x[0]) for x in values] == list(range(5))


@pytest.mark.parametrize('size', [1, 2, 4])
def test_so_many_are_under_way(size):
    put = []
    batches = data.prefetch(iter(range(10)), lambda x: put.append(x) or x, size)
    assert next(batches) == 0
    assert put == list(range(size))
    assert next(batches) == 1
    assert put == list(range(size + 1))


def test_an_endless_iterator_is_read_no_further_than_needed():
    read = []

    def endless():
        while True:
            read.append(None)
            yield len(read)

    batches = data.prefetch(endless(), lambda x: x)
    assert [next(batches) for _ in range(3)] == [1, 2, 3]
    assert len(read) == 4


def test_errors_come_through():
    def broken():
        yield 1
        raise OSError('disk')

    with pytest.raises(OSError, match='disk'):
        list(data.prefetch(broken(), lambda x: x))
    with pytest.raises(ZeroDivisionError):
        list(data.prefetch(iter([1, 0]), lambda x: 1 / x))


def test_closing_stops_the_threads_that_read_ahead(toy):
    def readers():
        return [t for t in threading.enumerate() if t.name.startswith('grain-prefetch')]

    before = set(readers())
    batches = data.prefetch(data.stream(data.batches(toy(10), 4, 0), threads=3), lambda x: x)
    next(batches)
    assert set(readers()) - before
    batches.close()
    deadline = time.monotonic() + 10
    while set(readers()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(readers()) - before


def test_a_size_below_one_is_refused(refused):
    with refused(ValueError, 'size=0'):
        data.prefetch(iter([]), lambda x: x, 0)
