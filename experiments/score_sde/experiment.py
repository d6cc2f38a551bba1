"""Three SDEs, and three ways back along each: predictor-corrector, SDE and ODE; annealed Langevin on one."""

SDES = {
    'VE': {'diffusion.schedule': 've', 'diffusion.sigma_max': 20.0},
    'VP': {'diffusion.schedule': 'vp'},
    'sub-VP': {'diffusion.schedule': 'sub_vp'},
}
SAMPLERS = {
    'reverse SDE, 200 steps': {'sampler': 'euler_maruyama', 'steps': 200},
    'predictor-corrector, 100 steps': {'sampler': 'predictor_corrector', 'steps': 100},
    'ODE, Heun, 50 steps': {'sampler': 'heun', 'steps': 50},
    'ODE, adaptive': {'sampler': 'ode_adaptive'},
}
LANGEVIN = {'sampler': 'annealed_langevin', 'steps': 20, 'sample__langevin_steps': 10}
HOW = {'guidance': 1, 'seed': 0}


def measure(lab):
    """Of digits: kernel distance, agreement and bits per dimension of each."""
    judge = lab.judge('digits_judge', 'digits_judge')
    asked = {'features': judge, 'metrics': ['kernel', 'agreement'], 'num': 1000}
    found, drawn = {}, {}
    for sde, settings in SDES.items():
        settings = {'diffusion.prediction': 'eps', 'loss.t_min': 1e-5} | settings
        run = lab.train(f'score_sde_{settings["diffusion.schedule"]}', 'digits', **settings)
        ways = SAMPLERS | ({'annealed Langevin, 20 x 10': LANGEVIN} if sde == 'VE' else {})
        for name, flags in ways.items():
            figures = lab.evaluate(run, **asked, **HOW, **flags)
            for kind, value in figures.items():
                found[f'{kind}, {sde}, {name}'] = value
            kept = f'{settings["diffusion.schedule"]}_{flags["sampler"]}'
            drawn[f'{sde}, {name}'] = lab.sample(run, kept, num=20, **HOW, **flags)
        bits = lab.evaluate(run, metrics=['flow'], num=180, batch_size=90)
        found[f'bits per dimension, {sde}'] = bits['bits_per_dim_flow']
    lab.show(picture(found, drawn), 'digits')
    return found


def picture(found, drawn):
    """Two samples of each class for every way back, a row an SDE, with their kernel distance."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((17, 1.25 * len(SDES)), layout='constrained')
    for line, sde in zip(figure.subplots(len(SDES), len(SAMPLERS) + 1), SDES):
        of_sde = [(name, x) for name, x in drawn.items() if name.split(',')[0] == sde]
        for place, (name, images) in zip(line, of_sde):
            place.imshow(grid.tile(images, 10, 4))
            distance = found[f'kernel_distance, {name}']
            place.set_title(f'{name}\nkernel distance {distance:.4f}', fontsize=8)
        for place in line:
            place.axis('off')
    return figure
