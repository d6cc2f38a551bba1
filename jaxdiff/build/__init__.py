"""From a config to objects: the only room that knows both, and the only tables of names.

`check` refuses a config that can't work before anything else happens; the other functions take a
checked config.
"""

from jaxdiff.build.check import check, decides
from jaxdiff.build.model import Model, codec, dataset, init, model, noise_schedule, schedule_of
from jaxdiff.build.sampling import sampling, visited
from jaxdiff.build.training import optimizer, training_loss

__all__ = [
    'Model',
    'check',
    'codec',
    'dataset',
    'decides',
    'init',
    'model',
    'noise_schedule',
    'optimizer',
    'sampling',
    'schedule_of',
    'training_loss',
    'visited',
]
