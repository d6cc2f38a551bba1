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


def random_run(workdir, config, steps=(3, 6)):
    """Makes a run without training, its parameters drawn at random; returns its folder."""
    import functools

    import jax
    import numpy as np
    from etils import epath

    from jaxdiff import build, config as configs, manifest
    from jaxdiff.training import checkpoint

    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    like = jax.eval_shape(functools.partial(build.init, model), jax.random.key(0))
    draws = np.random.default_rng(0)
    params = jax.tree.map(lambda x: draws.normal(0, 0.3, x.shape).astype(x.dtype), like)
    path = epath.Path(workdir)
    writer = checkpoint.Writer(path, keep=2)
    for step in steps:
        items = {
            'params': params,
            'ema': jax.tree.map(lambda x, s=step: x * (1 - 0.01 * s), params),
        }
        made = manifest.manifest(config, dataset) | build.text_of(model)
        writer.save(step, items, made, loss=1.0)
        writer.check(wait=True)
    writer.close()
    (path / 'config.json').write_text(configs.dumps(config))
    return str(path)


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
