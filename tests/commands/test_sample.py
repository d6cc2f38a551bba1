import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from etils import epath
from PIL import Image

from jaxdiff import build, config as configs
from jaxdiff.commands import asked_for, noise, sample, show
from jaxdiff.viz import grid


def draw(workdir, out, num=10, batch_size=8, overrides=(), **options):
    pairs = [('sample.num', str(num)), ('sample.batch_size', str(batch_size)), *overrides]
    job = sample.prepare(workdir, pairs, out=str(out), **options)
    sample.run(job)
    return np.load(f'{out}.npz')


def test_the_files_and_what_they_say(random_run, tmp_path):
    found = draw(random_run, tmp_path / 'a', seed=3)
    assert found['samples'].shape == (10, 8, 8, 1) and found['samples'].dtype == np.uint8
    np.testing.assert_array_equal(found['labels'], np.arange(10))
    made = grid.read_made(epath.Path(tmp_path / 'a.png'))
    assert made['seed'] == 3 and made['step'] == 6 and made['parameters'] == 'ema'
    assert made['sample']['steps'] == 2 and made['run']['config']['net']['channels'] == 8


def test_a_sample_is_decided_by_seed_and_index_alone(random_run, tmp_path):
    whole = draw(random_run, tmp_path / 'a', num=10, batch_size=10)['samples'].astype(int)
    parts = draw(random_run, tmp_path / 'b', num=10, batch_size=4)['samples'].astype(int)
    fewer = draw(random_run, tmp_path / 'c', num=3, batch_size=8)['samples'].astype(int)
    other = draw(random_run, tmp_path / 'd', num=10, batch_size=10, seed=1)['samples'].astype(int)
    assert np.abs(whole - parts).max() <= 1  # another batch size may round otherwise
    assert np.abs(whole[:3] - fewer).max() <= 1
    assert np.abs(whole - other).max() > 50


def test_options_change_what_they_should(random_run, tmp_path):
    base = draw(random_run, tmp_path / 'a')['samples']
    for i, options in enumerate(
        [
            {'ema': False},
            {'step': 3},
            {'overrides': [('sample.sampler', 'ddpm')]},
            {'overrides': [('sample.guidance', '3')]},
            {'overrides': [('sample.steps', '4')]},
            {'overrides': [('sample.eta', '1.0')]},
        ]
    ):
        assert np.any(draw(random_run, tmp_path / str(i), **options)['samples'] != base), options


def test_labels_by_number_and_name(random_run, tmp_path):
    found = draw(random_run, tmp_path / 'a', num=4, labels=['3', '7'])
    np.testing.assert_array_equal(found['labels'], [3, 7, 3, 7])
    names = ['T-shirt/top', 'Bag']  # a name may look like a number of folders, or be one
    np.testing.assert_array_equal(asked_for.choose_labels(['Bag', '0'], names, 2, 3), [1, 0, 1])
    out = sample.prepare(random_run, [], labels=['3', '7']).out
    assert out.parent == epath.Path(random_run) and out.name.endswith('_num10_label3-7')


def test_one_program_serves_every_checkpoint_label_and_batch(random_run):
    """One trace per batch shape, and no array of the size of the parameters inside the program."""
    job = sample.prepare(random_run, [], out=random_run + '/x')
    traces, pure = [], build.sampling(job.config, job.model, checked=True)

    @jax.jit
    def counted(params, cond, keys):
        traces.append(1)
        return pure(params, cond, keys)

    doubled = jax.tree.map(lambda x: 2 * x, job.params)
    for params, labels in ((job.params, np.zeros(20)), (doubled, np.full(20, 7))):
        labels = labels.astype(np.int32)
        list(sample.draw_all(counted, job.model, params, {'label': labels}, 0, 20, 8))
    assert len(traces) == 1
    list(sample.draw_all(counted, job.model, job.params, {'label': labels}, 0, 4, 4))
    assert len(traces) == 2
    program = jax.make_jaxpr(pure)(
        job.params, {'label': labels[:8]}, jax.random.split(jax.random.key(0), 8)
    )
    assert max((np.size(c) for c in program.consts), default=0) < 10_000


def test_samples_that_are_not_finite_are_told(random_run, tmp_path, capsys):
    """Those of two classes, whose embeddings are no numbers; the others are drawn as they were."""
    few = [('sample.num', '19'), ('sample.batch_size', '8')]  # the last batch is filled up
    asked = {'out': str(tmp_path / 'a'), 'labels': [*'0123456789']}
    job = sample.prepare(random_run, few, **asked, film=True)
    sample.run(job)
    assert 'not finite' not in capsys.readouterr().err
    whole = np.load(tmp_path / 'a.npz')['samples']
    assert 'not_finite' not in grid.read_made(epath.Path(tmp_path / 'a.png'))
    embedding = job.params['params']['label_embedding']['embedding']
    embedding = embedding.at[jnp.array([3, 8])].set(jnp.nan)
    net = job.params['params'] | {'label_embedding': {'embedding': embedding}}
    sample.run(job._replace(params=job.params | {'params': net}))
    told = '4 of 19: 3, 8, 13, 18'
    assert (
        capsys.readouterr().err.count(
            f'warning: samples are not finite, but black or white, {told}'
        )
        == 1
    )
    files = [tmp_path / name for name in ('a.png', 'a.npz', 'a_film.png', 'a_film.gif')]
    for made in map(show.read, map(str, files)):
        assert made['not_finite'] == told and told in show.text('a', made)
    found, lost = np.load(tmp_path / 'a.npz')['samples'], [3, 8, 13, 18]
    assert not found[lost].any()
    others = np.delete(np.arange(19), lost)
    np.testing.assert_array_equal(found[others], whole[others])


def test_the_film_ends_with_the_samples(random_run, tmp_path):
    job = sample.prepare(random_run, [], out=str(tmp_path / 'a'), film=True)
    paths = sample.run(job)
    assert [p.name for p in paths] == ['a.png', 'a.npz', 'a_film.png', 'a_film.gif']
    assert Image.open(tmp_path / 'a_film.gif').n_frames == 3
    film = sample.sampler(job.config, job.model, film=True)
    ((frames, finite),) = sample.draw_all(film, job.model, job.params, job.cond, 0, 10, 10)
    assert frames.shape == (3, 10, 8, 8, 1) and finite.shape == (10,)
    samples = np.load(tmp_path / 'a.npz')['samples']
    assert np.abs(frames[-1].astype(int) - samples).max() <= 1


def test_noise_shows_both_branches(random_run, tmp_path):
    config = configs.load('digits', tiny.overrides())
    job = noise.prepare(config, random_run, str(tmp_path / 'n'), num=3)
    paths = noise.run(job)
    assert [p.name for p in paths] == ['n.png', 'n.gif']
    forward = noise.forward_branch(job.schedule, job.codec, job.images, seed=0)
    assert np.abs(forward.frames[0].astype(int) - job.images).max() <= 1  # t = 0 is the data
    z = forward.frames[-1] / 127.5 - 1  # t = 1 is noise, clipped to the picture's range
    assert abs(z.mean()) < 0.2 and z.std() > 0.7
    alone = noise.run(noise.prepare(config, None, str(tmp_path / 'm'), num=2))
    assert Image.open(alone[0]).height < Image.open(paths[0]).height


@pytest.mark.parametrize(
    'options, message',
    [
        ({'step': 5}, 'no checkpoint of step 5 .*there are 3, 6'),
        ({'labels': ['10']}, "no label '10'; it has 0 0, 1 1"),
        ({'labels': ['cat']}, "no label 'cat'"),
        ({'seed': 2**32}, r'--seed must lie between 0 and 2\*\*32 - 1'),
        (
            {'overrides': [('sample.sampler', 'eulr')]},
            "sample.sampler must be one of .*'ddim', 'ddpm'",
        ),
        ({'overrides': [('sample.eta', '2')]}, 'sample.eta must be between 0 and 1'),
    ],
)
def test_bad_requests_are_refused(random_run, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        draw(random_run, tmp_path / 'a', **options)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_replaced_silently(random_run, tmp_path):
    draw(random_run, tmp_path / 'a')
    with pytest.raises(ValueError, match='exists: give another --out, or --overwrite'):
        draw(random_run, tmp_path / 'a')
    draw(random_run, tmp_path / 'a', overwrite=True)


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no training run in'):
        sample.prepare(str(tmp_path), [])


def test_eps_starts_where_alpha_is_not_zero():
    config = configs.load('digits', tiny.overrides(diffusion__prediction='eps'))
    model = build.model(config, (8, 8, 1), 17, 10)
    assert 0.99 < build.visited(config, model)[0] < 1
    v = configs.load('digits', tiny.overrides())
    assert build.visited(v, build.model(v, (8, 8, 1), 17, 10))[0] == 1
    params = jax.jit(functools.partial(build.init, model))(jax.random.key(0))
    images = jax.jit(build.sampling(config, model))(
        params, {'label': np.zeros(2, np.int32)}, jax.random.split(jax.random.key(0), 2)
    )
    assert images.shape == (2, 8, 8, 1)


def test_a_files_name_holds_what_was_changed(random_run):
    plain = sample.prepare(random_run, [('sample.num', '2')]).out.name
    changed = sample.prepare(random_run, [('sample.num', '2'), ('sample.grid', 'karras')]).out.name
    assert changed == plain + '_gridkarras'
