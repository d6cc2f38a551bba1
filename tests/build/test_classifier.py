"""A classifier of noisy data: its loss against Bayes' rule, and where it leads."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from jaxdiff import build, config as configs
from jaxdiff.build import classifier
from jaxdiff.diffusion import exact, schedule

COSINE = schedule.cosine()
MEANS = np.array([[-0.5], [0.5]]) * np.ones(64)  # of the data, by class
STD = 0.2


class Bayes(nn.Module):
    """The true log-odds of two constant images of −1/8 and 1/8 under noise, times w."""

    @nn.compact
    def __call__(self, x, level, cond, dropout_keys=None):
        w = self.param('w', nn.initializers.ones, ())
        alpha, sigma = COSINE(level / 1000)
        odds = 2 * alpha / 8 * jnp.sum(x, (1, 2, 3)) / sigma**2
        return w * jnp.stack([-odds / 2, odds / 2], -1)


class Known(nn.Module):
    """The belief about a mixture of two Gaussians, or its classes' log-probabilities."""

    decides: bool = False

    @nn.compact
    def __call__(self, x, level, cond, dropout_keys=None):
        self.param('w', nn.initializers.zeros, ())
        flat, t = x.reshape(len(x), -1), level / 1000
        if not self.decides:
            return exact.mixture(COSINE, [0.5, 0.5], MEANS, [STD, STD])(flat, t).reshape(x.shape)
        each = [exact.mixture_logp(COSINE, [1.0], MEANS[i : i + 1], [STD]) for i in (0, 1)]
        return jnp.stack([logp(flat, t) for logp in each], -1)


def made(net=None, **changes):
    config = configs.load('digits', tiny.overrides(**changes))
    build.check(config)
    model = build.model(config, (8, 8, 1), 17, 10)
    return config, model if net is None else model._replace(net=net)


def test_the_loss_is_the_entropy_of_the_label_given_the_noisy_image():
    """Least at the true log-odds; none of it without noise, all of ln 2 in noise alone."""
    config, model = made(Bayes(), model='classifier', train__batch_size=4000)
    label = np.arange(4000, dtype=np.int32) % 2
    image = np.where(label, 9, 7)[:, None, None, None] * np.ones((8, 8, 1)) * 255 // 16
    batch = {'image': image.astype(np.uint8), 'label': label, 'index': np.arange(4000)}
    losses = jax.jit(classifier.loss(config, model))
    values = {w: losses({'params': {'w': w}}, batch, jax.random.key(0)) for w in (0.7, 1.0, 1.4)}
    means = {w: loss.mean() for w, (loss, _) in values.items()}
    assert means[1.0] < means[0.7] - 1e-3 and means[1.0] < means[1.4] - 1e-3
    loss, logsnr = map(np.asarray, values[1.0])
    assert loss[logsnr > 3].mean() < 0.01
    assert loss[logsnr < -7].mean() == pytest.approx(np.log(2), abs=0.02)
    part = {name: x[100:104] for name, x in batch.items()}  # decided by its index alone
    some, _ = losses({'params': {'w': 1.0}}, part, jax.random.key(0))
    np.testing.assert_allclose(some, loss[100:104], rtol=1e-4)


def test_the_true_classifier_leads_the_unconditional_model_to_its_class():
    changes = {'net__condition': '', 'diffusion__prediction': 'x0', 'sample__clip': False}
    changes |= {'sample__steps': 40, 'sample__grid': 'logsnr'}
    config, model = made(Known(), **changes, sample__classifier='some', loss__weighting='eps')
    _, leads = made(Known(decides=True), model='classifier')
    params = {'params': {'w': jnp.zeros(())}}
    keys = jax.random.split(jax.random.key(0), 16)
    given = {'class': jnp.arange(16) % 2}

    def means(draw, params, *others):
        images = np.asarray(jax.jit(draw)(params, {}, keys, *others))
        return (images / 127.5 - 1).reshape(16, -1).mean(1), images

    asked = {'net': params, 'classifier': params}
    led, images = means(build.sampling(config, model, classifier=leads), asked, None, given)
    np.testing.assert_allclose(led, np.where(np.arange(16) % 2, 0.5, -0.5), atol=0.15)
    assert (images / 127.5 - 1).reshape(16, -1).std(1).mean() == pytest.approx(STD, rel=0.1)
    config.sample.classifier_scale = 0.0
    free, _ = means(build.sampling(config, model, classifier=leads), asked, None, given)
    plain, _ = means(build.sampling(config, model), {'net': params})
    np.testing.assert_allclose(free, plain, atol=1e-2)
    assert 2 < np.sum(plain > 0) < 14  # of both classes


@pytest.mark.parametrize(
    'changes, classes, message',
    [
        ({}, 0, 'needs data with two classes or more, got 0'),
        ({'classifier__attention': '(3,)'}, 10, r'classifier.attention=\(3,\) must be among'),
        ({'classifier__multipliers': '(1, 1, 1, 1, 1)'}, 10, 'sizes divisible by 16'),
    ],
)
def test_what_cannot_be_is_refused(changes, classes, message):
    config = configs.load('digits', tiny.overrides(model='classifier', **changes))
    build.check(config)
    with pytest.raises(ValueError, match=message):
        build.model(config, (8, 8, 1), 17, classes)


def test_a_classifier_needs_a_schedule_that_is_known():
    changes = {'diffusion__schedule': 'learned', 'diffusion__embedding': 'logsnr'}
    changes |= {'loss__name': 'variational', 'model': 'classifier'}
    with pytest.raises(ValueError, match='needs a schedule that is known'):
        build.check(configs.load('digits', tiny.overrides(**changes)))
