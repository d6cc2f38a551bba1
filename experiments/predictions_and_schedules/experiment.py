"""What the network predicts, and how the noise grows: which is best after the same number of steps?"""

import itertools

PREDICTIONS = ('eps', 'x0', 'v', 'velocity')
SCHEDULES = {  # and the times at which they are trained
    'linear': {'diffusion.schedule': 'ddpm_linear'},
    'cosine': {'diffusion.schedule': 'cosine'},
    'flow': {'diffusion.schedule': 'flow'},
    'EDM': {
        'diffusion.schedule': 'edm',
        'loss.distribution': 'log_normal',
        'loss.weighting': 'edm',
        'sample.grid': 'karras',
    },
}
STEPS = 400
HOW = {'sampler': 'dpmpp_2m', 'steps': 30, 'guidance': 1, 'seed': 0}


def measure(lab):
    """Of digits: the kernel distance and agreement of each."""
    judge = lab.judge('digits_judge', 'digits_judge')
    asked = {'features': judge, 'metrics': ['kernel', 'agreement'], 'num': 1000}
    found, drawn = {}, {}
    for prediction, (name, settings) in itertools.product(PREDICTIONS, SCHEDULES.items()):
        changes = {'train.steps': STEPS, 'diffusion.embedding': 'logsnr'} | settings
        changes['diffusion.prediction'] = prediction
        run = lab.train(f'{prediction}_{settings["diffusion.schedule"]}', 'digits', **changes)
        for kind, value in lab.evaluate(run, **asked, **HOW).items():
            found[f'{kind}, {prediction}, {name}'] = value
        drawn[prediction, name] = lab.sample(run, f'{prediction}_{name}', num=20, **HOW)
    lab.show(picture(found, drawn), 'digits')
    return found


def picture(found, drawn):
    """A row a prediction, a column a schedule: two samples of each class, and the kernel distance."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((14, 6), layout='constrained')
    places = figure.subplots(len(PREDICTIONS), len(SCHEDULES)).flat
    for place, ((prediction, name), images) in zip(places, drawn.items()):
        place.imshow(grid.tile(images, 10, 4))
        place.axis('off')
        distance = found[f'kernel_distance, {prediction}, {name}']
        place.set_title(f'{prediction}, {name}: {distance:.4f}', fontsize=9)
    return figure
