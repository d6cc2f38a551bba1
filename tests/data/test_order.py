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


def test_a_choice_depends_on_its_position_alone_and_is_fair():
    positions = np.arange(6000)
    words = order.choices(3, positions)
    assert words.dtype == np.uint64 and len(set(words.tolist())) == 6000
    alone = [order.choices(3, positions[i : i + 1])[0] for i in (0, 1, 6, 999)]
    assert alone == words[[0, 1, 6, 999]].tolist()
    counts = np.bincount((words % np.uint64(6)).astype(int), minlength=6)
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # 5 degrees of freedom: p = 0.001


@pytest.mark.filterwarnings('error')
@pytest.mark.parametrize('seed', [0, 2**32 - 1])
def test_choices_are_no_flips(seed):
    """The largest numbers too are keys as they are, not rounded to floating point."""
    choices = order.choices(seed, np.arange(2000)) % np.uint64(2) == 1
    agree = np.mean(choices == order.flips(seed, np.arange(2000)))
    assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(2000)
    neighbour = order.choices(abs(seed - 1), np.arange(2000)) % np.uint64(2) == 1
    assert abs(np.mean(choices == neighbour) - 0.5) < 5 * 0.5 / np.sqrt(2000)


@pytest.mark.filterwarnings('error')
def test_every_order_is_a_permutation_of_its_own():
    orders = [tuple(order.examples(5, np.arange(30), 30, o)) for o in (0, 1, 2**31, 2**32 - 1)]
    assert len(set(orders)) == 4 and all(sorted(o) == list(range(30)) for o in orders)
