"""From a config to a sampling run."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from ml_collections import ConfigDict

from jaxdiff.build import conditions, editing, names
from jaxdiff.build.classifier import log_probabilities
from jaxdiff.build.model import Model, net_params, schedule_of
from jaxdiff.diffusion import denoiser, guidance, prediction, schedule as schedules
from jaxdiff.diffusion.gaussian import gaussian
from jaxdiff.diffusion.sample import run
from jaxdiff.diffusion.schedule import Schedule


def sampling(
    config: ConfigDict,
    model: Model,
    film: bool = False,
    weaker: Model | None = None,
    classifier: Model | None = None,
    checked: bool = False,
) -> Callable[[Any, dict, Array], Any]:
    """The whole of a sampling run as one pure function, to be compiled once per batch shape.

    Returns: (params, cond, keys [b], away=None, given=None) -> images, uint8 [b, h, w, c]; with
    `film` those of every time visited, x_1 … x_0, [steps + 1, b, h, w, c]; with `checked` also whether
    each last x_t is finite, [b], as an image can't say: it comes out black or white. `cond` is a
    condition, see `conditions`; `away` another one, that guidance leads away from: by default that of
    nothing; `given` are images and what is known of them, see `editing`, and under 'source' the
    condition that they are of: by default nothing.

    Where there are guides, `params` have theirs under 'weaker' and 'classifier', and `given` has the
    classes that the latter leads to under 'class', [b]. With `sample.weights` each entry of `cond` has
    an axis of the prompts after the first, [b, prompts, ...].
    """
    c = config.sample
    fixed_times = model.schedule and visited(config, model)

    def denoise_with(params, cond, model=model):
        made = denoiser.from_network(
            lambda x, level: model.net.apply(net_params(model, params), x, level, cond),
            model.prediction,
            schedule_of(model, params),
            model.embedding,
            model.sigma_data,
            model.learned_variance,
        )
        return made if (c.sampler, c.variance) == ('ddpm', 'learned') else denoiser.mean_only(made)

    def asked(params, cond, hidden, model=model):
        """The denoiser of a condition, or of several at once, and the condition of nothing."""
        each = [cond]
        if c.weights:
            each = [jax.tree.map(lambda x: x[:, i], cond) for i in range(len(c.weights))]
        told = [conditions.told(model, params, one) for one in each]
        nothing = conditions.hide(model, told[0], hidden)
        beliefs = [denoise_with(params, one, model) for one in told]
        if not c.weights:
            return beliefs[0], nothing
        none = denoise_with(params, nothing, model)
        return guidance.composed(beliefs, none, c.weights), nothing

    def clipped(denoise):
        if c.threshold:
            return denoiser.dynamic_threshold(denoise, c.threshold)
        return denoiser.clip(denoise) if c.clip else denoise

    def guide(denoise, denoise_away):
        guided = guidance.classifier_free(denoise, denoise_away, c.guidance)
        if c.guidance_rescale:
            guided = guidance.rescaled(guided, denoise, c.guidance_rescale)
        if c.guidance_to > 0 or c.guidance_from < 1:
            guided = guidance.limited(guided, denoise, c.guidance_to, c.guidance_from)
        return guided

    def to_class(denoise, params, schedule, label):
        logp = log_probabilities(classifier, params)

        def of_label(x_t, t):
            return jnp.take_along_axis(logp(x_t, t), label[:, None], 1)[:, 0]

        return guidance.classifier(denoise, of_label, schedule, c.classifier_scale)

    def draw(params, cond, keys, away=None, given=None):
        schedule = schedule_of(model, params)
        times = visited(config, model, params) if fixed_times is None else fixed_times
        sampler = names.SAMPLERS[c.sampler](schedule, c)
        hidden = jnp.ones(keys.shape[:1], bool)
        denoise, nothing = asked(params, cond, hidden)
        if weaker:
            denoise_away, _ = asked(params['weaker'], cond, hidden, weaker)
        elif c.cfgpp or c.guidance != 1:
            led = nothing if away is None else conditions.told(model, params, away)
            denoise_away = denoise_with(params, led)
        if c.cfgpp:
            sampler = guidance.cfgpp(sampler, schedule, clipped(denoise_away), c.guidance)
        elif c.guidance != 1:
            denoise = guide(denoise, denoise_away)
        if classifier:
            denoise = to_class(denoise, params['classifier'], schedule, given['class'])
        denoise = editing.informed(config, model, schedule, denoise, clipped, given)
        start, walk = jax.vmap(jax.random.split, out_axes=1)(keys)
        weights = params.get('codec', ())
        if c.method in names.WHOLE:
            source = conditions.told(model, params, given.get('source', nothing))
            source = clipped(denoise_with(params, source))
            of = (schedule, sampler, source, weights, start, times, given)
            x_1 = editing.start(config, model, *of)
        else:
            prior = gaussian(schedule).prior
            x_1 = jax.vmap(lambda key: prior(key, model.shape, times[0]))(start)
        sampler = editing.steered(config, model, schedule, sampler, weights, start, given)
        decode = functools.partial(model.codec.decode, weights)
        record = (lambda state: decode(state.x)) if film else None
        state, frames = run(walk, denoise, sampler, x_1, times, record)
        images = jnp.concatenate([decode(x_1)[None], frames]) if film else decode(state.x)
        if checked:
            return images, jnp.isfinite(state.x).all(range(1, state.x.ndim))
        return images

    return draw


def visited(config: ConfigDict, model: Model, params: Any = None) -> Array:
    """The times that a sampling run visits, [steps + 1]; `params` are asked for a learned schedule."""
    schedule = schedule_of(model, params)
    if model.schedule:
        times = times_of(config.sample, schedule, model.prediction)
    else:
        times = names.GRIDS[config.sample.grid](schedule, config.sample, 1.0)  # alpha is nowhere 0
    return editing.times_of(config, times)


def times_of(c: ConfigDict, schedule: Schedule, asked: prediction.Prediction) -> Array:
    """The times of the config's section `sample` for a schedule and a prediction.

    Raises: ValueError where its grid starts later than the prediction can: see `prediction.start`.
    """
    if c.classifier:  # whose guidance has no value at alpha = 0 either, as eps has none
        asked = prediction.eps
    t_max = prediction.start(asked, schedule)
    if c.grid == 'logsnr':
        t_max = min(t_max, schedules.t_max(schedule))
    times = names.GRIDS[c.grid](schedule, c, t_max)
    try:
        prediction.check_start(asked, schedule, times[0])
    except ValueError as error:
        raise ValueError(
            f"sample.grid={c.grid!r}: {error}; 'uniform' and 'quadratic' do, and 'karras' with a "
            'lower sample.sigma_max'
        ) from error
    return times
