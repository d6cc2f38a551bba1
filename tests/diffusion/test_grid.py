import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import grid, schedule


def test_uniform():
    np.testing.assert_allclose(grid.uniform(4), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(grid.uniform(1000), np.arange(1000, -1, -1) / 1000, atol=1e-7)
    np.testing.assert_allclose(grid.uniform(2, t_max=0.8, t_min=0.2), [0.8, 0.5, 0.2])


def test_quadratic_steps_shrink_towards_the_data():
    times = grid.quadratic(3)
    np.testing.assert_allclose(times, [1, 4 / 9, 1 / 9, 0], atol=1e-7)


GRIDS = {
    'uniform': grid.uniform,
    'quadratic': grid.quadratic,
    'leading': lambda n: grid.leading(n, offset=0),
    'trailing': grid.trailing,
    'karras': lambda n: grid.karras(schedule.vp(), n),
    'logsnr': lambda n: grid.logsnr(schedule.vp(), n),
}


@pytest.mark.parametrize('name', GRIDS)
def test_as_many_steps_as_asked_for(name):
    for steps in (0, 1, 2, 7, 1000):
        times = GRIDS[name](steps)
        assert len(times) == steps + 1 and np.all(np.diff(times) < 0)
    with pytest.raises(ValueError, match='number of steps must be 0 or more|between 0 and 1000'):
        GRIDS[name](-1)


@pytest.mark.parametrize('name', ['leading', 'trailing'])
def test_a_chain_has_no_more_steps_than_it_was_trained_with(name):
    with pytest.raises(ValueError, match='between 0 and 1000, got steps=1001'):
        GRIDS[name](1001)
    with pytest.raises(ValueError, match='start at timestep 1000, but the last is 999'):
        grid.leading(1000, offset=1)


def test_diffusers_spacings():
    """As its documentation lists them, timestep i being our t = (i + 1) / 1000."""
    leading = [901, 801, 701, 601, 501, 401, 301, 201, 101, 1]
    np.testing.assert_allclose(grid.leading(10), [*((i + 1) / 1000 for i in leading), 0], atol=1e-7)
    trailing = [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    np.testing.assert_allclose(
        grid.trailing(10), [*((i + 1) / 1000 for i in trailing), 0], atol=1e-7
    )


@pytest.mark.usefixtures('x64')
def test_karras():
    times = grid.karras(schedule.edm(80.0), 18)
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(80 * times, [*expected, 0], rtol=1e-9)
    assert len(grid.karras(schedule.vp(), 5, sigma_max=50.0)) == 6
    np.testing.assert_allclose(
        80 * grid.karras(schedule.edm(80.0), 17, to_zero=False)[-1], 0.002, rtol=1e-6
    )


@pytest.mark.usefixtures('x64')
def test_logsnr_steps_are_equal():
    times = grid.logsnr(schedule.vp(), 8, 0.9, 0.01)
    steps = np.diff(schedule.logsnr(schedule.vp(), times))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    np.testing.assert_allclose(times[jnp.array([0, -1])], [0.9, 0.01], rtol=1e-9)


@pytest.mark.usefixtures('x64')
def test_a_last_step_to_the_data_is_counted():
    for steps in (1, 2, 8):
        times = grid.logsnr(schedule.vp(), steps, t_min=0.01, to_zero=True)
        assert len(times) == steps + 1 and times[0] == 1 and times[-1] == 0
        assert np.all(np.diff(times) < 0)
    np.testing.assert_allclose(grid.logsnr(schedule.vp(), 0, to_zero=True), [1.0])


@pytest.mark.usefixtures('x64')
@pytest.mark.parametrize('make, last', [(schedule.ve(0.01, 50.0), 50), (schedule.edm(10.0), 10)])
def test_karras_starts_no_later_than_the_schedule_ends(make, last):
    times = grid.karras(make, 6, sigma_max=80.0)
    assert np.all(np.diff(times) < 0) and len(times) == 7
    np.testing.assert_allclose(make(times[0])[1], last, rtol=1e-3)
