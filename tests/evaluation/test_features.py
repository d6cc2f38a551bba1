import numpy as np

from jaxdiff.evaluation.features import known

PARAMS = {'a': {'kernel': np.arange(6, dtype=np.float32).reshape(2, 3), 'bias': np.ones(2)}}


def asked(params, images):
    return images


def test_a_digest_is_of_weights_and_preprocessing():
    features = known('net', 3, PARAMS, asked, 'as it is')
    turned = {'a': {'bias': np.ones(2), 'kernel': np.asfortranarray(PARAMS['a']['kernel'])}}
    assert features == known('net', 3, PARAMS, asked, 'as it is')
    assert features.digest == known('net', 3, turned, asked, 'as it is').digest
    assert (features.name, features.width, features.params) == ('net', 3, PARAMS)
    moved = {'a': PARAMS['a'] | {'bias': np.array([1, 1 + 1e-15])}}
    renamed = {'b': PARAMS['a']}
    reshaped = {'a': PARAMS['a'] | {'kernel': PARAMS['a']['kernel'].reshape(3, 2)}}
    others = [known('net', 3, params, asked, 'as it is') for params in (moved, renamed, reshaped)]
    others += [
        known('net', 3, PARAMS, asked, 'resized'),
        known('other', 3, PARAMS, asked, 'as it is'),
    ]
    assert len({one.digest for one in [features, *others]}) == 6
