"""What the section `sample` of a config may hold: the combinations that can work."""

from ml_collections import ConfigDict

from jaxdiff.build import names
from jaxdiff.build.model import noise_schedule
from jaxdiff.build.sampling import times_of
from jaxdiff.diffusion import grid


def guided(config: ConfigDict) -> bool:
    """Whether the model knows its condition and its absence, as guidance needs."""
    return bool(config.net.condition) and 0 < config.loss.condition_dropout < 1


def check_sampling(config: ConfigDict) -> None:
    """Raises a ValueError that names the key where a config can't be sampled from."""
    _check_method(config)
    c = config.sample
    if c.guidance != 1 and not (guided(config) or c.weaker):
        raise ValueError(
            f'sample.guidance={c.guidance} needs a model trained with '
            "net.condition='class' or 'text' and loss.condition_dropout between 0 and 1, or a weaker "
            'model, sample.weaker'
        )
    if c.weaker and (c.guidance == 1 or c.cfgpp):
        raise ValueError('sample.weaker needs sample.guidance other than 1, without sample.cfgpp')
    if c.weaker_step and not c.weaker:
        raise ValueError('sample.weaker_step is of sample.weaker, which is not given')
    if (c.classifier_step or c.classifier_scale != 1) and not c.classifier:
        raise ValueError(
            'sample.classifier_step and _scale are of sample.classifier, which is not given'
        )
    if c.classifier and c.cfgpp:
        raise ValueError('sample.classifier goes without sample.cfgpp')
    if c.weights and not (guided(config) and 'text' in config.net.condition):
        raise ValueError(
            'sample.weights are of prompts: they need a model trained with text and '
            'loss.condition_dropout between 0 and 1'
        )
    if c.weights and c.cfgpp:
        raise ValueError('sample.weights go without sample.cfgpp')
    if c.cfgpp and not (guided(config) and c.guidance <= 1):
        raise ValueError(
            f'sample.cfgpp needs a guided model and sample.guidance between 0 and 1, got {c.guidance}'
        )
    if c.cfgpp and (c.guidance_rescale or c.guidance_from < 1 or c.guidance_to > 0):
        raise ValueError('sample.cfgpp goes without sample.guidance_rescale, _from and _to')
    if not c.guidance_to <= c.guidance_from:
        raise ValueError(
            'sample.guidance_to must be at most sample.guidance_from, '
            f'got {c.guidance_to} and {c.guidance_from}'
        )
    if c.threshold and not c.clip:
        raise ValueError('sample.threshold is a way to clip: it needs sample.clip=True')
    if c.eta and c.sampler != 'ddim':
        raise ValueError(f"sample.eta is DDIM's; sample.sampler is {c.sampler!r}")
    if c.variance == 'learned' and not config.diffusion.learned_variance:
        raise ValueError("sample.variance='learned' needs diffusion.learned_variance=True")
    if c.sigma_min >= c.sigma_max:
        raise ValueError(
            f'sample.sigma_min must be less than sample.sigma_max, got {c.sigma_min} and {c.sigma_max}'
        )
    if c.grid in ('leading', 'trailing') and c.steps > 1000:
        raise ValueError(f'sample.grid={c.grid!r} has at most 1000 steps, got {c.steps}')
    if c.grid == 'leading' and (first := float(grid.leading(c.steps)[0])) < 0.9:
        raise ValueError(
            f"sample.grid='leading' with {c.steps} steps starts at t={first:g}, far from the noise: "
            "give a number that nearly divides 1000, or 'trailing'"
        )
    if config.diffusion.schedule == 'edm' and c.grid not in ('karras', 'logsnr'):
        raise ValueError(
            "diffusion.schedule='edm' needs sample.grid='karras' or 'logsnr': equal steps in t leave "
            f'nearly all of the noise to the last one, got {c.grid!r}'
        )
    schedule, d = noise_schedule(config), config.diffusion
    if schedule is not None:
        times_of(c, schedule, names.PREDICTIONS[d.prediction](d))


def _check_method(config):
    c = config.sample
    if c.method and config.task:
        raise ValueError(
            f'a model of task={config.task!r} is shown the image: it takes no sample.method, got '
            f'{c.method!r}'
        )
    if c.method and c.cfgpp:
        raise ValueError(f'sample.method={c.method!r} goes without sample.cfgpp')
    if bool(c.task) != (c.method in names.LINEAR):
        raise ValueError(
            f'sample.task ({", ".join(names.LINEAR_TASKS)}) and a sample.method that undoes it '
            f'({", ".join(names.LINEAR)}) need each other, got {c.task!r} and {c.method!r}'
        )
    if c.task and (config.codec.name != 'pixels' or config.codec.dequantize):
        raise ValueError(
            f'sample.method={c.method!r} measures pixels: it needs a model of pixels, without '
            "codec.dequantize; in latents 'replacement', 'repaint' and 'sdedit' work"
        )
    if c.method == 'ddnm' and config.degradation.noise:
        raise ValueError(
            "sample.method='ddnm' takes what was measured as it is: it needs degradation.noise=0, got "
            f"{config.degradation.noise}; 'pigdm' and 'dps' take noise"
        )
    if c.method == 'repaint' and c.sampler in names.REMEMBERING:
        raise ValueError(
            f"sample.method='repaint' goes back and forth, which sample.sampler={c.sampler!r} cannot, "
            f'as it remembers earlier steps: take {_without(names.REMEMBERING)}'
        )
    if c.method in ('invert', 'interpolate') and (c.sampler not in names.BOTH_WAYS or c.eta):
        raise ValueError(
            f'sample.method={c.method!r} walks to the noise and back by one deterministic step at a '
            f'time: it needs sample.sampler of {", ".join(names.BOTH_WAYS)} and sample.eta=0, got '
            f'{c.sampler!r} and {c.eta}'
        )


def _without(left_out):
    return ', '.join(name for name in names.SAMPLERS if name not in left_out)
