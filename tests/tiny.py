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
    """{item: tree of NumPy arrays} of the checkpoint at `step`, read by Orbax alone."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    def read(path):
        with ocp.PyTreeCheckpointer() as reader:
            shapes = reader.metadata(path).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            return reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))

    folder = (pathlib.Path(workdir) / 'checkpoints' / str(step)).resolve()
    names = ('params', 'ema', 'profiles', 'optimizer', 'health')
    items = {name: read(folder / name) for name in names if (folder / name).exists()}
    items['made'] = json.loads((folder / 'made' / 'metadata').read_text())
    return items
