"""How does the cost of a step grow, on this machine? By batch, channels, resolution and devices.

    python experiments/speed/growth.py

Each point is a process of its own, which trains a U-Net of three levels (1, 2, 2) with attention at the
last, `BASE` but for one number. Writes growth.json and growth.png beside this file.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from jaxdiff import config as configs, devices

HERE = pathlib.Path(__file__).resolve().parent
BASE = {'batch': 64, 'channels': 32, 'side': 32, 'devices': 2}
AXES = {
    'batch': (16, 32, 64, 128),
    'channels': (16, 32, 64, 128),
    'side': (16, 32, 64),
    'devices': (1, 2, 4, 8),
}
STEPS, SECONDS = 5, 5.0  # measured, and how long at least


def main() -> None:
    """Measures all points, draws."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--point', help='measure this one, in JSON, and print what was found')
    parser.add_argument('--out', type=pathlib.Path, default=HERE)
    args = parser.parse_args()
    if args.point:
        devices.keep_memory()
        print(json.dumps(measure(json.loads(args.point))))
        return
    found = {}
    for axis, values in AXES.items():
        for value in values:
            point = BASE | {axis: value}
            asked = json.dumps(point)
            if asked not in found:
                command = [sys.executable, __file__, '--point', asked]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[asked] = json.loads(done.stdout.splitlines()[-1])
                print(asked, found[asked], flush=True)
    from jaxdiff import manifest  # which imports jax, which a point does in time
    from jaxdiff.viz import grid

    made = {'made_by': 'experiments/speed/growth.py', 'content': 'cost of a step'}
    made |= {'cores': len(os.sched_getaffinity(0))} | manifest.here()
    record = {'found': [json.loads(p) | f for p, f in found.items()], 'made': made}
    (args.out / 'growth.json').write_text(json.dumps(record, indent=1) + '\n')
    about = {'pnginfo': grid.about(made)}
    picture(record['found']).savefig(args.out / 'growth.png', dpi=100, pil_kwargs=about)


def measure(point: dict) -> dict:
    """Seconds of a step, its operations, and memory: XLA's temporaries on each device, and the process's peak."""
    import resource

    batch, side = point['batch'], point['side']
    devices.use_cores(batch, count=point['devices'])
    devices.keep_programs()
    import jax

    from jaxdiff import build, data
    from jaxdiff.training import program

    with tempfile.TemporaryDirectory() as place:
        file = pathlib.Path(place) / 'data.npz'
        images = np.random.default_rng(0).integers(256, size=(256, side, side, 3), dtype=np.uint8)
        np.savez(file, image=images)
        flags = {'data.name': '', 'data.path': str(file), 'train.batch_size': batch}
        flags |= {
            'net.channels': point['channels'],
            'net.multipliers': (1, 2, 2),
            'net.condition': '',
        }
        flags |= {'net.attention': (side // 4,)}
        config = configs.load('default', [(key, str(value)) for key, value in flags.items()])
        dataset = build.dataset(config)
        model = build.model(config, dataset.shape, dataset.levels, 0)
        key = jax.random.key(0)
        step = build.train_step(config, model, key, jax.devices())
        driver = build.driver(config, step, jax.devices())
        rows = driver.put_batch(data.batches(dataset, batch, 0)[0])
    state = driver.put_state(build.train_state(config, model, key))
    compiled = driver.step.lower(state, rows).compile()
    state, metrics = compiled(state, rows)
    jax.block_until_ready(metrics)
    times = []
    while len(times) < STEPS or sum(times) < SECONDS:
        began = time.perf_counter()
        state, metrics = compiled(state, rows)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    return {
        'seconds': float(np.median(times)),
        'gflop': build.flops(config, model) / 1e9,
        'temporaries_mib': program.memory(compiled).temporaries / 2**20,
        'peak_mib': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def picture(found):
    """Time above memory, an axis a column; dotted, what is in proportion to the operations."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((4 * len(AXES), 7), layout='constrained')
    places = figure.subplots(2, len(AXES), sharey='row')
    for (axis, values), (above, below) in zip(AXES.items(), places.T):
        points = [
            next(f for f in found if BASE | {axis: v} == {k: f[k] for k in BASE}) for v in values
        ]
        base = next(f for f in points if f[axis] == BASE[axis])
        above.plot(values, [f['seconds'] for f in points], 'o-', label='a step')
        ideal = [base['seconds'] * f['gflop'] / base['gflop'] for f in points]
        above.plot(values, ideal, ':', color='grey', label='as its operations')
        below.plot(values, [f['peak_mib'] for f in points], 'o-', label="the process's peak")
        every = [f['temporaries_mib'] * f['devices'] for f in points]
        below.plot(values, every, 's-', label='temporaries on all devices')
        for place in (above, below):
            place.set(xscale='log', yscale='log', xlabel=axis, xticks=values, xticklabels=values)
            place.minorticks_off()
            place.grid(alpha=0.3)
    places[0, 0].set_ylabel('seconds')
    places[1, 0].set_ylabel('MiB')
    for line in places:
        line[0].legend(fontsize=8)
    return figure


if __name__ == '__main__':
    main()
