"""How good are samples of so many steps, by each sampler? The shape of the DDIM paper's table 1."""

STEPS = (5, 10, 20, 50, 100)
FEW = {  # samplers and what they take for granted; heun asks the network twice a step
    'DDPM': {'sampler': 'ddpm'},
    'DDIM': {'sampler': 'ddim'},
    'DPM-Solver++(2M)': {'sampler': 'dpmpp_2m', 'sample__grid': 'logsnr'},
    'UniPC': {'sampler': 'unipc', 'sample__grid': 'logsnr'},
    'Heun': {'sampler': 'heun', 'sample__grid': 'logsnr'},
}
MANY = ('DDPM', 'DDIM')  # with 1000 steps too
HOW = {'guidance': 1, 'seed': 0}


def measure(lab):
    """The kernel distance of 256 samples, by the judge's features, from the training images."""
    run = lab.train('fashion_mnist', 'fashion_mnist')
    judge = lab.judge('fashion_mnist_judge', 'fashion_mnist_judge')
    asked = {'features': judge, 'metrics': ['kernel'], 'num': 256, 'batch_size': 128}
    real = lab.evaluate(run, real='test', **asked)
    found, drawn = {'real test images': real['kernel_distance']}, {}
    for name, flags in FEW.items():
        for steps in (*STEPS, *[1000] * (name in MANY)):
            # Heun's n steps are 2 n - 1 evaluations, the last being one.
            n = (steps + 1) // 2 if name == 'Heun' else steps
            flags = flags | HOW | {'steps': n}
            found[f'{name}, {steps}'] = lab.evaluate(run, **asked, **flags)['kernel_distance']
            if steps in STEPS:
                kept = f'{flags["sampler"]}_{steps}'
                drawn[name, steps] = lab.sample(run, kept, num=10, **flags)
    lab.show(picture(found, drawn), 'fashion_mnist')
    return found


def picture(found, drawn):
    """The distance over evaluations, and a sample of each class for every sampler and number of steps."""
    import matplotlib.figure

    from jaxdiff.viz import grid

    figure = matplotlib.figure.Figure((13, 11), layout='constrained')
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 2))
    axes = top.subplots()
    for name in FEW:
        over = {
            int(key.split(', ')[1]): 1000 * v
            for key, v in found.items()
            if key.startswith(f'{name}, ')
        }
        axes.plot([*over], [*over.values()], marker='o', label=name)
    real = 1000 * found['real test images']
    axes.axhline(real, linestyle=':', color='grey', label='real test images')
    axes.set_xscale('log')
    axes.set_yscale('symlog', linthresh=1)
    axes.set(xlabel='evaluations of the network', ylabel='kernel distance × 1000')
    axes.set_ylim(min(-1, 2 * real), max(1, 2000 * max(found.values())))
    axes.set_xticks([*STEPS, 1000], map(str, (*STEPS, 1000)))
    axes.yaxis.set_major_formatter('{x:g}')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    places = bottom.subplots(len(FEW), len(STEPS))
    for line, name in zip(places, FEW):
        for place, steps in zip(line, STEPS):
            place.imshow(grid.tile(drawn[name, steps], 5))
            place.set_xticks([])
            place.set_yticks([])
            place.set_title(f'{name}, {steps}', fontsize=8)
    return figure
