"""A run that is over in seconds."""

import json
import pathlib

OVERRIDES = {
    'net.channels': '8',
    'net.attention': '()',
    'train.steps': '6',
    'train.batch_size': '32',
    'train.log_every': '1',
    'train.checkpoint_every': '3',
    'train.sample_every': '0',
    'optimizer.warmup': '2',
    'sample.steps': '2',
    'sample.num': '10',
    'sample.batch_size': '8',
}


def overrides(**changes):
    """The overrides with some changed, keys with two underscores for the dot."""
    return list((OVERRIDES | {k.replace('__', '.'): str(v) for k, v in changes.items()}).items())


def flags(**changes):
    """The same as arguments of the command line."""
    return [f'--config.{key}={value}' for key, value in overrides(**changes)]


def newest(workdir):
    """(step, {item: tree}) of the newest checkpoint."""
    folders = (pathlib.Path(workdir) / 'checkpoints').iterdir()
    step = max(int(p.name) for p in folders if p.name.isdecimal())
    return step, saved(workdir, step)


def saved(workdir, step):
    """{item: tree} of the checkpoint at `step`, read by Orbax alone."""
    import orbax.checkpoint as ocp

    folder = (pathlib.Path(workdir) / 'checkpoints' / str(step)).resolve()
    items = {
        p.name: ocp.StandardCheckpointer().restore(p)
        for p in folder.iterdir()
        if p.name in ('params', 'ema', 'profiles', 'optimizer', 'health')
    }
    items['made'] = json.loads((folder / 'made' / 'metadata').read_text())
    return items
