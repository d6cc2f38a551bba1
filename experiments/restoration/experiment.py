"""How well is a real image restored that no model has seen, beside the obvious way?

A small model for each task, and solvers with the class-conditional model at the null label, undo the
same measurements of test images.
"""

import numpy as np

from jaxdiff import devices

NUM, DRAWS, STEPS = 32, 2, 30  # test images, samples of each, for their mean, and steps
TASKS = {
    'super_resolution': {'degradation.factor': 4},
    'inpaint': {},
    'deblur': {'degradation.blur': 1.5, 'degradation.noise': 0.05},
    'denoise': {'degradation.noise': 0.5},
    'sketch': {},
    'colorize': {'data.name': 'emoji', 'data.image_size': 32, 'train.steps': 900},
}
METHODS = {  # of a model without a task: what it undoes, and what it is told besides
    'replacement': (('inpaint',), {}),
    'repaint': (('inpaint',), {'sample.jump': 5, 'sample.resamplings': 4}),
    'ddnm': (('super_resolution', 'inpaint'), {'sample.eta': 0.85}),
    'dps': (('super_resolution', 'inpaint', 'deblur', 'denoise'), {}),
    'pigdm': (('super_resolution', 'inpaint', 'deblur', 'denoise'), {}),
}
ANCESTRAL = ('replacement', 'repaint', 'dps', 'pigdm')  # noise anew mends what a step did
SHOWN = 6  # images of each task in the picture


def measure(lab):
    """Trains, restores, measures, draws."""
    devices.use_cores()
    from jaxdiff import data
    from jaxdiff.data.fingerprint import digest

    data.load(TASKS['colorize']['data.name'])  # is wanted last, and must be there
    prior = lab.train('fashion_mnist', 'fashion_mnist')
    runs = {
        task: lab.train(f'restore_{task}', 'restoration', task=task, **settings)
        for task, settings in TASKS.items()
    }
    figures, rows = {}, {}
    for task, settings in TASKS.items():
        found = {}
        degraded = {k: v for k, v in settings.items() if k.startswith('degradation.')}
        trained = restore(lab, runs[task], {})
        (whole, shown), measured = trained['job'].start.shown, None
        found['trained for it'] = trained['samples']
        for method, (tasks, more) in METHODS.items():
            if task in tasks:
                asked = {'sample.method': method, **more}
                if method not in ANCESTRAL[:2]:
                    asked |= {'sample.task': task, **degraded}
                if method in ANCESTRAL:
                    asked['sample.sampler'] = 'ddpm'
                one = restore(lab, prior, asked)
                if not np.array_equal(one['job'].start.shown[0], whole):
                    raise ValueError(f'{task}: {method} was given other images')
                found[method] = one['samples']
                if method == 'pigdm':
                    measured = one['job'].start.given
        num = len(trained['samples'])
        lab.note(task, num, digest(whole[:num].tobytes()))
        name, plain = obvious(task, degraded, whole[:num], shown[:num], measured)
        for way, samples in {name: plain[:, None], **found}.items():
            near = nearness(whole[:num], samples)
            print(f'{task}, {way}: {near}', flush=True)
            figures |= {f'{kind}, {task}, {way}': value for kind, value in near.items()}
        rows[task] = {'whole': whole, 'given': shown, name: plain}
        rows[task] |= {way: samples[:, 0] for way, samples in found.items()}
    lab.show(picture(rows), 'images')
    return figures


def restore(lab, workdir, asked):
    """DRAWS samples of each of NUM test images, uint8 [num, draws, h, w, c], and their job."""
    from jaxdiff.commands import images, sample

    each, steps = (8, 2) if lab.smoke else (NUM, STEPS)
    num = each * DRAWS
    asked = {'sample.num': num, 'sample.batch_size': num, 'sample.steps': steps} | asked
    job = sample.prepare(
        workdir,
        [(k, str(v)) for k, v in asked.items()],
        images=images.Request(split=f'test[:{each}]', degrade=True),
        out='restored',  # not written
        overwrite=True,
    )
    draw = sample.sampler(job.config, job.model)
    drawn = sample.draw_all(
        draw, job.model, job.params, job.cond, job.seed, num, num, job.away, job.given
    )
    samples, finite = map(np.concatenate, zip(*drawn))
    sample.not_finite(finite)
    return {'job': job, 'samples': samples.reshape(DRAWS, each, *samples.shape[1:]).swapaxes(0, 1)}


def nearness(whole, samples):
    """PSNR and SSIM of a sample, and of the mean of all that were drawn of an image; the mean over images."""
    from jaxdiff.evaluation.images import psnr, ssim

    means = samples.astype(np.float32).mean(1)
    return {
        f'{measure} of {of}': round(float(np.mean(f(whole, x))), 3)
        for of, x in (('a sample', samples[:, 0]), ('the mean', means))
        for measure, f in (('PSNR', psnr), ('SSIM', ssim))
    }


def obvious(task, degraded, whole, shown, measured):
    """(name, images uint8) of what one would do without a model; a setting is chosen for the best PSNR."""
    import jax
    import jax.numpy as jnp

    from jaxdiff.diffusion import operators
    from jaxdiff.evaluation.images import psnr

    def to_uint8(x):
        return np.round((np.clip(x, -1, 1) + 1) / 2 * 255).astype(np.uint8)

    def best(of, settings):
        tried = [to_uint8(of(s)) for s in settings]
        return max(tried, key=lambda x: float(np.mean(psnr(whole, x))))

    if task in ('super_resolution', 'sketch', 'colorize'):
        names = {'super_resolution': 'bicubic', 'sketch': 'the lines', 'colorize': 'grey'}
        return names[task], shown
    y = jnp.asarray(measured['y'][: len(whole)])
    shape = whole.shape[1:]
    if task == 'denoise':
        deviations = np.linspace(0.4, 1.6, 7)
        return 'Gaussian filter', best(lambda s: operators.blur(shape, s).apply(y), deviations)
    if task == 'deblur':
        a = operators.blur(shape, degraded['degradation.blur'])
        transposed = jax.linear_transpose(a.apply, y)
        solve = lambda s: jax.scipy.sparse.linalg.cg(
            lambda x: transposed(a.apply(x))[0] + s * x, transposed(y)[0], maxiter=200
        )[0]
        return 'Tikhonov', best(solve, 10.0 ** np.linspace(-4, 0, 9))
    known, x = measured['known'][: len(whole)], y
    for _ in range(500):  # Laplace's equation between what is known
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), 'edge')
        around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2]
        x = jnp.where(known > 0, y, (around + padded[:, 1:-1, 2:]) / 4)
    return 'harmonic filling', to_uint8(np.asarray(x))


def picture(rows):
    """A block for each task, in it a row for each way, and the same images in columns."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((15, 9), layout='constrained')
    for axes, (task, ways) in zip(figure.subplots(2, 3).flat, rows.items()):
        every = [x[i] for x in ways.values() for i in range(SHOWN)]
        tiled = grid.tile(np.stack(every), SHOWN, 2)
        axes.imshow(tiled)
        height = tiled.shape[0] / len(ways)
        axes.set_yticks([height * (i + 0.5) for i in range(len(ways))], list(ways), fontsize=8)
        axes.set_xticks([])
        axes.set_title(task, fontsize=10)
    return figure
