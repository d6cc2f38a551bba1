import numpy as np
import pytest

from jaxdiff.data import order


def test_the_first_place_of_an_epoch_is_uniform():
    n, epochs = 7, 3500
    first = order.examples(0, np.arange(epochs) * n, n)
    counts = np.bincount(first, minlength=n)
    chi_squared = ((counts - epochs / n) ** 2 / (epochs / n)).sum()
    assert chi_squared < 22.5  # 6 degrees of freedom: p = 0.001


def test_neighbouring_seeds_share_no_epoch():
    orders = {
        tuple(order.examples(seed, np.arange(20) + 20 * epoch, 20))
        for seed in range(10)
        for epoch in range(10)
    }
    assert len(orders) == 100


@pytest.mark.parametrize('first, step', [(0, 1), (5, 1), (3, 4), (2**40 + 1, 3)])
def test_a_flip_depends_on_its_position_alone(first, step):
    positions = first + step * np.arange(50)
    alone = [order.flips(9, positions[i : i + 1])[0] for i in range(50)]
    assert order.flips(9, positions).tolist() == alone


def test_flips_are_a_fair_coin_of_the_seed():
    flips = np.array([order.flips(seed, np.arange(1000)) for seed in range(20)])
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / np.sqrt(flips.size)
    assert (np.abs(flips.mean(1) - 0.5) < 5 * 0.5 / np.sqrt(1000)).all()
