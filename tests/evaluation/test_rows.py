"""What is computed of rows is the same whatever the number of rows, and all devices take part."""

import jax
import numpy as np
import pytest

from jaxdiff.evaluation import rows


@pytest.mark.parametrize('n', [1, 7, 16, 1030, 2100])
@pytest.mark.parametrize('block', [None, 20])
def test_each_row_is_computed_once_by_one_of_all_devices(n, block):
    x, a = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32), np.float32(2)
    shapes = []

    def f(x, tree):
        shapes.append(x.shape)
        return {'sum': x.sum(1), 'scaled': x * tree['a'], 'none': None}

    found = rows.of(f, {'a': a}, block=block)(x)
    np.testing.assert_allclose(found['sum'], x.sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found['scaled'], x * a)
    assert found['none'] is None
    assert len(shapes) == 1  # one program
    assert shapes[0][0] == -(-(block or min(n, 1024)) // len(jax.devices()))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match='there are no rows'):
        rows.of(np.sum)(np.zeros((0, 3)))
