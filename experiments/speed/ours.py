"""A case by jaxdiff: `python ours.py CASE FOLDER`, in which theirs has left weights, an input and what it gives."""

import functools
import os
import pathlib
import sys
import time

import cases
import numpy as np
import worker

from jaxdiff import config as configs, devices


def main() -> None:
    """Compiles, compares, and works."""
    devices.keep_memory()  # as the command does
    case, folder = cases.CASES[sys.argv[1]], pathlib.Path(sys.argv[2])
    flags = {f'net.{key}': value for key, value in case.net.items()}
    flags |= {'data.name': '', 'train.batch_size': case.batch}
    flags |= {'data.path': str(folder / 'data.npz'), 'diffusion.schedule': 'ddpm_linear'}
    flags |= {'diffusion.prediction': 'eps', 'sample.steps': cases.STEPS, 'sample.clip': True}
    config = configs.load('default', [(key, str(value)) for key, value in flags.items()])
    devices.use_cores(case.batch)
    devices.keep_programs()

    import jax
    import safetensors.numpy

    from jaxdiff import build

    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, 0)
    params = parameters(model, case, safetensors.numpy.load_file(folder / 'weights.safetensors'))
    given = np.load(folder / 'given.npz')
    y = jax.jit(model.net.apply)(params, given['x'], given['level'], {})
    apart = float(np.abs(y - given['y']).max() / np.abs(given['y']).max())
    key, began = jax.random.key(0), time.perf_counter()
    if case.work == 'train':
        work, operations = training(config, model, dataset, key)
    else:
        work, operations = sampling(config, model, params, case), lambda: 0
    work()
    first = time.perf_counter() - began
    count = sum(x.size for x in jax.tree.leaves(params))
    worker.serve(
        work,
        parameters=count,
        apart=apart,
        first=first,
        **(counted(operations) if 'COUNT' in os.environ else {}),
        devices=jax.device_count(),
    )


def training(config, model, dataset, key):
    """One step of training, as `jaxdiff train` makes it."""
    import jax

    from jaxdiff import build, data

    step = build.train_step(config, model, key, jax.devices())
    driver = build.driver(config, step, jax.devices())
    batch = driver.put_batch(data.batches(dataset, config.train.batch_size, 0)[0])
    init = jax.jit(functools.partial(build.train_state, config, model))
    state = [driver.put_state(init(key))]

    def work():
        state[0], metrics = driver.step(state[0], batch)
        jax.block_until_ready(metrics)

    def operations():
        return driver.step.lower(state[0], batch).compile().cost_analysis()['flops']

    return work, operations


def sampling(config, model, params, case):
    """A batch of samples, as `jaxdiff sample` draws it."""
    import jax

    from jaxdiff.commands import sample
    from jaxdiff.training import parallel

    draw = sample.sampler(config, model)
    params = jax.device_put(params, parallel.copy_in_each_process())

    def work():
        [*sample.draw_all(draw, model, params, {}, 0, case.batch, case.batch)]

    return work


def parameters(model, case, weights):
    """Their weights as ours."""
    from jaxdiff.interop import unet2d

    if case.net['name'] == 'unet':
        return unet2d.parameters(model.net, case.shape[0], weights)
    tree = {}
    for name, array in weights.items():
        *modules, leaf = name.split('.')
        place = tree
        for module in modules:
            place = place.setdefault(module, {})
        place['kernel' if leaf == 'weight' else 'bias'] = array.T
    return {'params': tree}


def counted(operations) -> dict:
    """What would add to the peak of memory: done by a process that is not measured."""
    return {'gflop': operations() / 1e9, 'peak_gflops': peak()}  # of a step on each device


def peak() -> float:
    """What this machine does at best in a product of matrices of 2048, in 10^9 operations a second."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((2048, 2048), jnp.float32)
    f = jax.jit(lambda a: a @ a)
    times = []
    for _ in range(8):
        began = time.perf_counter()
        f(a).block_until_ready()
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times) / 1e9


if __name__ == '__main__':
    main()
