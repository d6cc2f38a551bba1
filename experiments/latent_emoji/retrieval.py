"""Does a picture drawn from a name show what it names? By the rank that a scorer gives the name.

    jaxdiff prepare emoji && jaxdiff prepare emoji/plain
    jaxdiff train --config emoji_autoencoder && jaxdiff train --config emoji_ldm
    python experiments/latent_emoji/retrieval.py

The scorer has two towers, a small network of images and MiniLM's mean state of a name under a linear
map, and is trained contrastively on the real training pictures and their names: each picture against
the names of all. It ranks a picture's own name among 100, for real pictures and for generated ones,
of names that the model was trained with and of names held out. Writes retrieval.json and
retrieval.png beside this file.
"""

import argparse
import json
import pathlib
import time

import numpy as np

from jaxdiff import devices

AMONG, WIDTH, BATCH, STEPS, RATE = 100, 128, 64, 1500, 1e-3
SHOWN = 12


def main() -> None:
    """Trains the scorer, draws, ranks."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--workdir', default='runs/emoji_ldm')
    parser.add_argument('--num', type=int, default=200, help='names of each split')
    parser.add_argument('--guidance', type=float, default=3.0)
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    devices.use_cores(count=1)

    from jaxdiff import data, manifest, text
    from jaxdiff.commands import run as runs, sample
    from jaxdiff.evaluation import retrieval

    trained = runs.find(args.workdir)
    name = trained.config.data.name
    encoder = text.minilm(length=32)
    splits = {split: pictures(data.load(name, split=split)) for split in ('train', 'test')}
    every = sorted({title for _, titles in splits.values() for title in titles})
    vectors = dict(zip(every, means(encoder, every)))
    score = train_scorer(*splits['train'], vectors, args.seed)
    table, shown = {}, {}
    for split, (real, titles) in splits.items():
        chosen = chosen_names(titles, args.num, args.seed)
        names = [titles[i] for i in chosen]
        flags = {'guidance': args.guidance, 'steps': args.steps, 'num': len(names)}
        overrides = [(f'sample.{k}', str(v)) for k, v in (flags | {'batch_size': 50}).items()]
        job = sample.prepare(
            args.workdir, overrides, seed=args.seed, prompts=names, out='drawn', overwrite=True
        )
        draw = sample.sampler(job.config, job.model)
        drawn = np.concatenate(
            [*sample.draw_all(draw, job.model, job.params, job.cond, job.seed, len(names), 50)]
        )
        for kind, images in (('real', real[chosen]), ('generated', drawn)):
            ranks = retrieval.ranks(score(images, names), AMONG, args.seed)
            table[f'{split}, {kind}'] = {
                'first': float(np.mean(ranks == 1)),
                'first five': float(np.mean(ranks <= 5)),
                'median rank': float(np.median(ranks)),
                'pictures': len(names),
            }
            print(f'{split}, {kind}: {table[f"{split}, {kind}"]}', flush=True)
        shown[split] = names[:SHOWN], real[chosen][:SHOWN], drawn[:SHOWN]
    settings = vars(args) | {'among': AMONG, 'steps of the scorer': STEPS, 'batch': BATCH}
    made = {'settings': settings, 'run': runs.origin(trained), 'versions': manifest.versions()}
    out = pathlib.Path(__file__).with_suffix('')
    out.with_suffix('.json').write_text(json.dumps({'table': table, 'made': made}, indent=1) + '\n')
    picture(shown).savefig(out.with_suffix('.png'), dpi=110)


def pictures(dataset) -> tuple[np.ndarray, list[str]]:
    """All images of a data set, uint8 [n, h, w, c], and their names, the first captions."""
    elements = [dataset.source[i] for i in range(len(dataset.source))]
    titles = [bytes(e['captions'][0]).decode() for e in elements]
    return np.stack([e['image'] for e in elements]), titles


def chosen_names(titles: list[str], num: int, seed: int) -> list[int]:
    """Rows of `num` pictures of as many names, at random; all names where there are fewer."""
    rows = {title: i for i, title in enumerate(titles)}
    return np.random.default_rng(seed).permutation(sorted(rows.values()))[:num].tolist()


def means(encoder, titles: list[str]) -> np.ndarray:
    """The encoder's mean state of each text, of length 1."""
    from jaxdiff import text

    found = []
    for start in range(0, len(titles), 64):
        part = titles[start : start + 64]
        states, mask = text.encode(encoder, part + [''] * (64 - len(part)), True, True)
        mean = np.einsum('nlw,nl->nw', states, mask)[: len(part)]
        found.append(mean / np.linalg.norm(mean, axis=-1, keepdims=True))
    return np.concatenate(found)


def train_scorer(images: np.ndarray, titles: list[str], vectors: dict, seed: int):
    """(images, names) -> scores, [images, names], after training on these pairs.

    −log softmax of s cos(f(image), W name) over the names of all pictures, at the picture's own; f, W
    and s are learned, f sees the image at half its size, shifted by up to 4 pixels.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from tqdm import tqdm

    from jaxdiff.nets.classifier import Classifier

    net = Classifier(WIDTH, channels=32, multipliers=(1, 2, 4), dropout=0.1)
    names = list(dict.fromkeys(titles))
    row = {name: i for i, name in enumerate(names)}
    labels = np.array([row[title] for title in titles])
    matrix = jnp.asarray([vectors[name] for name in names])
    side = images.shape[1] // 2

    def half(x):
        return jax.image.resize(x / 127.5 - 1.0, (len(x), side, side, x.shape[-1]), 'linear')

    def unit(x):
        return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def scores(params, x, text, keys=None):
        seen = net.apply(params['image'], x, jnp.zeros(len(x)), {}, keys)
        return jnp.exp(params['scale']) * unit(seen) @ unit(text @ params['text']).T

    def loss(params, x, y, text, keys):
        logp = jax.nn.log_softmax(scores(params, half(x), text, keys))
        return -jnp.mean(jnp.take_along_axis(logp, y[:, None], 1))

    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, 100, STEPS)
    optimizer = optax.adamw(schedule, weight_decay=0.05)

    @jax.jit
    def step(params, state, x, y, text, key):
        value, gradient = jax.value_and_grad(loss)(params, x, y, text, jax.random.split(key, BATCH))
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    keys = jax.random.split(jax.random.key(seed), 2)
    params = {
        'image': net.init(keys[0], jnp.zeros((1, side, side, images.shape[-1])), jnp.zeros(1), {}),
        'text': jax.random.normal(keys[1], (matrix.shape[1], WIDTH)) * matrix.shape[1] ** -0.5,
        'scale': jnp.log(10.0),
    }
    state, draws, began = optimizer.init(params), np.random.default_rng(seed), time.monotonic()
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), 'edge')
    bar = tqdm(range(STEPS), desc='scorer', dynamic_ncols=True)
    for i in bar:
        chosen, shifts = draws.integers(len(images), size=BATCH), draws.integers(9, size=2)
        x = padded[chosen][:, shifts[0] :][:, : 2 * side, shifts[1] :][:, :, : 2 * side]
        asked = x, labels[chosen], matrix, jax.random.fold_in(keys[0], i)
        params, state, value = step(params, state, *asked)
        if i % 50 == 0:
            bar.set_postfix(loss=f'{value:.3f}')
    print(f'scorer: {STEPS} steps in {time.monotonic() - began:.0f} s, loss {value:.3f}')
    ask = jax.jit(lambda x, text: scores(params, half(x), text))
    return lambda images, asked: np.asarray(
        ask(images, jnp.asarray([vectors[name] for name in asked]))
    )


def picture(shown: dict):
    """Of each split some names, the real picture of each and the generated one."""
    import matplotlib.figure

    figure = matplotlib.figure.Figure((1.3 * SHOWN, 6.4), layout='constrained')
    axes = figure.subplots(2 * len(shown), SHOWN)
    for i, (split, (names, *rows)) in enumerate(shown.items()):
        for j, (kind, images) in enumerate(zip(('real', 'generated'), rows)):
            for place, image, name in zip(axes[2 * i + j], images, names):
                place.imshow(image)
                place.set_xticks([])
                place.set_yticks([])
                if not j:
                    place.set_title(name.replace(' ', '\n', 2), fontsize=7)
            axes[2 * i + j][0].set_ylabel(f'{split}\n{kind}', fontsize=8)
    return figure


if __name__ == '__main__':
    main()
