import numpy as np
import pytest

from jaxdiff.diffusion import grid


def test_uniform():
    np.testing.assert_allclose(grid.uniform(4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(grid.uniform(1000), np.arange(1000, -1, -1) / 1000, atol=1e-7)
    np.testing.assert_allclose(grid.uniform(2, t_max=0.8, t_min=0.2), [0.8, 0.5, 0.2])


def test_quadratic_steps_shrink_towards_the_data():
    times = grid.quadratic(3)
    np.testing.assert_allclose(times, [1, 4 / 9, 1 / 9, 0], atol=1e-7)


@pytest.mark.parametrize('make', [grid.uniform, grid.quadratic])
def test_no_steps_are_one_time_and_fewer_are_refused(make):
    np.testing.assert_allclose(make(0, t_max=0.9), [0.9])
    with pytest.raises(ValueError, match='steps'):
        make(-1)
