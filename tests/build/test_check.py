import pytest

from jaxdiff import build, config as configs


@pytest.mark.parametrize(
    'overrides, message',
    [
        ({'diffusion.schedule': 'cosin'}, "diffusion.schedule must be one of 'cosine'"),
        ({'net.dropout': '1.5'}, 'net.dropout must be between 0 and 0.99, got 1.5'),
        ({'train.steps': '0'}, 'train.steps must be at least 1'),
        ({'data.path': 'x'}, 'exactly one of data.name and data.path'),
        (
            {'train.accumulate': '3'},
            'train.batch_size=128 must be a multiple of train.accumulate=3',
        ),
        ({'optimizer.weight_decay': '0.1'}, "needs optimizer.name='adamw'"),
        ({'sample.guidance': '2', 'loss.condition_dropout': '0'}, 'sample.guidance=2.0 needs'),
        ({'sample.guidance': '2', 'net.condition': ''}, 'sample.guidance=2.0 needs'),
        ({'sample.eta': '1', 'sample.sampler': 'ddpm'}, "sample.eta is DDIM's"),
        (
            {'net.style': 'ncsn++'},
            "net.style='ncsn..' needs diffusion.embedding='logsnr', got 'time'",
        ),
        ({'net.heads': '0', 'net.name': 'dit'}, "net.heads=0, .*, needs net.name='unet'"),
        ({'net.multipliers': '()'}, 'net.multipliers must be positive'),
        (
            {'diffusion.shift': '2', 'diffusion.schedule': 've'},
            'diffusion.shift=2.0 needs a schedule',
        ),
        (
            {'diffusion.zero_terminal_snr': 'true', 'diffusion.schedule': 'flow'},
            'needs a schedule that preserves variance',
        ),
        ({'diffusion.sigma_min': '90'}, 'sigma_min must be less than diffusion.sigma_max'),
        ({'diffusion.schedule': 'edm'}, "needs diffusion.embedding='logsnr'"),
        (
            {
                'diffusion.schedule': 'edm',
                'diffusion.embedding': 'logsnr',
                'diffusion.prediction': 'edm',
            },
            "needs sample.grid='karras' or 'logsnr'",
        ),
        ({'diffusion.schedule': 've'}, 'has a target as large as the noise'),
        (
            {
                'diffusion.schedule': 'sigmoid',
                'diffusion.prediction': 'velocity',
                'loss.discrete_steps': '10',
            },
            'is infinite at t=1',
        ),
        ({'sample.grid': 'leading', 'sample.steps': '600'}, 'starts at t=0.6.*nearly divides'),
        ({'sample.tolerance': '1e-9'}, 'sample.tolerance must be between'),
        ({'diffusion.prediction': 'score'}, 'has a target that grows as 1 / sigma'),
        ({'diffusion.learned_variance': 'true'}, 'need each other'),
        ({'loss.name': 'hybrid'}, 'need each other'),
        (
            {'loss.name': 'hybrid', 'diffusion.learned_variance': 'true'},
            'needs loss.discrete_steps of 2 or more, got 0',
        ),
        (
            {'diffusion.schedule': 'learned', 'diffusion.embedding': 'logsnr'},
            "needs loss.name='variational', got 'denoising'",
        ),
        (
            {'loss.name': 'variational', 'loss.distribution': 'log_normal'},
            "needs loss.distribution='uniform'",
        ),
        ({'loss.name': 'variational', 'loss.weighting': 'p2'}, 'has its own weight'),
        (
            {'loss.discrete_steps': '10', 'loss.distribution': 'logit_normal'},
            "needs loss.distribution='uniform', got 'logit_normal'",
        ),
        ({'sample.cfgpp': 'true', 'sample.guidance': '2'}, 'sample.guidance between 0 and 1'),
        ({'sample.cfgpp': 'true', 'sample.guidance_rescale': '0.5'}, 'goes without'),
        (
            {'sample.guidance_from': '0.2', 'sample.guidance_to': '0.4'},
            'guidance_to must be at most sample.guidance_from, got 0.4 and 0.2',
        ),
        ({'sample.threshold': '99', 'sample.clip': 'false'}, 'needs sample.clip=True'),
        (
            {'sample.variance': 'learned', 'sample.sampler': 'ddpm'},
            'diffusion.learned_variance=True',
        ),
        ({'sample.sigma_min': '100'}, 'sample.sigma_min must be less than'),
        ({'sample.grid': 'trailing', 'sample.steps': '2000'}, 'has at most 1000 steps, got 2000'),
        (
            {'sample.grid': 'trailing', 'diffusion.prediction': 'eps'},
            "grid='trailing': the prediction 'eps' says nothing about x0 at t=1, .*'uniform'",
        ),
        (
            {
                'sample.grid': 'karras',
                'sample.sigma_max': '1e5',
                'diffusion.prediction': 'eps',
            },
            'with a lower sample.sigma_max',
        ),
        (
            {'optimizer.learning_rate': '1e999'},
            'optimizer.learning_rate must be at least 0, got inf',
        ),
    ],
)
def test_impossible_values_and_combinations_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        build.check(configs.load('digits', overrides.items()))


def test_which_keys_decide_a_result():
    config = configs.load('digits', [('optimizer.decay', 'constant')])
    for key in ('train.parallel', 'train.log_every', 'train.steps', 'data.dir', 'sample.steps'):
        assert not build.decides(key, config), key
    for key in ('seed', 'train.batch_size', 'net.channels', 'data.flip', 'loss.times'):
        assert build.decides(key, config), key
    config.optimizer.decay = 'cosine'
    assert build.decides('train.steps', config)
