"""From a config to objects: the only room that knows both, and the only tables of names.

`check` refuses a config that can't work before anything else happens; the other functions take a
checked config.
"""

from jaxdiff.build.autoencoder import Autoencoder, Features, of_codec, reconstruct
from jaxdiff.build.check import check, check_devices, decides
from jaxdiff.build.check_sampling import guided
from jaxdiff.build.classifier import log_probabilities
from jaxdiff.build.conditions import (
    check_text,
    conditions_of,
    of_captions,
    of_texts,
    text_of,
)
from jaxdiff.build.features import features_of
from jaxdiff.build.likelihood import bits_per_dim
from jaxdiff.build.model import (
    Model,
    beside,
    codec,
    dataset,
    init,
    model,
    noise_schedule,
    schedule_of,
    with_codec,
)
from jaxdiff.build.sampling import sampling, visited
from jaxdiff.build.step import batch_shapes, flops, train_state, train_step
from jaxdiff.build.training import driver, gammas, optimizer, training_loss

__all__ = [
    'Autoencoder',
    'Features',
    'Model',
    'batch_shapes',
    'beside',
    'bits_per_dim',
    'check',
    'check_devices',
    'check_text',
    'codec',
    'conditions_of',
    'dataset',
    'decides',
    'driver',
    'features_of',
    'flops',
    'gammas',
    'guided',
    'init',
    'log_probabilities',
    'model',
    'noise_schedule',
    'of_captions',
    'of_codec',
    'of_texts',
    'optimizer',
    'reconstruct',
    'sampling',
    'schedule_of',
    'text_of',
    'train_state',
    'train_step',
    'training_loss',
    'visited',
    'with_codec',
]
