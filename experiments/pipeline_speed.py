"""How much faster the input pipeline delivers than the training step consumes, in one run.

python experiments/pipeline_speed.py digits
"""

import argparse
import time

from jaxdiff import config as configs, devices


def main() -> None:
    """Prints both rates in examples per second, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('config', nargs='?', default='digits')
    parser.add_argument('--seconds', type=float, default=10.0, help='how long each is measured')
    args = parser.parse_args()
    config = configs.load(args.config)
    devices.use_cores(config.train.batch_size, config.train.accumulate)

    import jax

    from jaxdiff import build, data

    dataset = build.dataset(config)
    model = build.model(config, dataset.shape, dataset.levels, len(dataset.class_names))
    key = jax.random.key(config.seed)
    driver = build.driver(
        config, build.train_step(config, model, key, jax.devices()), jax.devices()
    )
    batches = data.batches(dataset, config.train.batch_size, config.seed, config.data.flip)
    stream, batch = data.stream(batches), driver.put_batch(batches[0])
    state = [driver.put_state(build.train_state(config, model, key))]

    def train():
        state[0], metrics = driver.step(state[0], batch)
        jax.block_until_ready(metrics)

    examples = config.train.batch_size
    delivered = examples * rate(lambda: next(stream), len(dataset.source) // examples, args.seconds)
    consumed = examples * rate(train, 2, args.seconds)
    print(
        f'{args.config}: the pipeline delivers {delivered:,.0f} examples/s, the step consumes '
        f'{consumed:,.0f}: ratio {delivered / consumed:.1f}'
    )


def rate(f, warmup: int, seconds: float) -> float:
    """Calls of f per second, after `warmup` calls (an epoch, a compilation) that don't count."""
    for _ in range(warmup):
        f()
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        f()
        calls += 1
    return calls / (time.perf_counter() - began)


if __name__ == '__main__':
    main()
