"""What the tests of the commands share."""

import pytest
import tiny

from jaxdiff import config as configs


@pytest.fixture(scope='session')
def random_run(tmp_path_factory):
    """A run of parameters drawn at random: its samples depend on each input of the network."""
    config = configs.load('digits', tiny.overrides())
    return tiny.random_run(tmp_path_factory.mktemp('run'), config)
