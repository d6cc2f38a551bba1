"""How far each way of solving an inverse problem is from the posterior, where that is known.

    python experiments/restoration/gaussian.py

Data of 16 correlated Gaussian components in a row; half of them are measured, or the means of pairs,
with and without noise. Writes gaussian.json beside this file: of each way the largest error of the
posterior's mean, in posterior standard deviations, and the share of the posterior's variance that
samples have, where anything is uncertain.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import diffusion, manifest
from jaxdiff.diffusion import exact, grid, inverse, operators, samplers, schedule

D, N, STEPS = 16, 20_000, 100
COSINE = schedule.cosine()
PLACES = np.arange(D)
COVARIANCE = np.exp(-np.abs(PLACES[:, None] - PLACES) / 4)
MEAN = np.sin(PLACES / 3)
KNOWN = (PLACES % 8 < 4).astype(np.float32)
PROBLEMS = {
    'half of them': np.eye(D)[KNOWN > 0],
    'means of pairs': np.kron(np.eye(D // 2), [[0.5, 0.5]]),
}


def posterior(a, noise, y):
    """Mean and covariance of x0 given y."""
    gain = COVARIANCE @ a.T @ np.linalg.inv(a @ COVARIANCE @ a.T + noise**2 * np.eye(len(a)))
    return MEAN + gain @ (y - a @ MEAN), COVARIANCE - gain @ a @ COVARIANCE


def ways(a, noise, y, x0):
    """{name: (denoiser, sampler, times)}."""
    inverse_of_a = np.linalg.pinv(a)
    operator = operators.Operator(
        lambda x: x @ jnp.float32(a.T), lambda y: y @ jnp.float32(inverse_of_a.T)
    )
    prior = exact.gaussian(COSINE, jnp.float32(MEAN), jnp.float32(COVARIANCE))
    y = jnp.broadcast_to(jnp.float32(y), (N, len(a)))
    ddpm, heun, times = samplers.ddpm(COSINE), samplers.heun(COSINE), grid.uniform(STEPS)
    asked = operator, y, noise
    found = {
        'ΠGDM, Jacobian': (
            inverse.pigdm(prior, COSINE, *asked, covariance='jacobian', iterations=D),
            heun,
            times,
        ),
        'ΠGDM, isotropic': (inverse.pigdm(prior, COSINE, *asked, iterations=D), heun, times),
        'DPS, scale 0.3': (prior, inverse.dps(ddpm, operator, y, 0.3), times),
        'DPS, scale 1': (prior, inverse.dps(ddpm, operator, y, 1.0), times),
    }
    if not noise:
        ddnm = samplers.ddim(COSINE, 0.85)
        found['DDNM, eta 0.85'] = (inverse.ddnm(prior, operator, y), ddnm, times)
        if len(a) == KNOWN.sum() and np.all(a.sum(1) == 1) and a.max() == 1:
            parts = COSINE, jnp.broadcast_to(jnp.float32(x0), (N, D)), jnp.asarray(KNOWN)
            found['replacement'] = (prior, inverse.replacement(ddpm, *parts), times)
            for r in (5, 20):
                sampler = inverse.repaint(ddpm, *parts)
                found[f'RePaint, {r} times'] = (prior, sampler, grid.repaint(times, 5, r))
    return found


def main():
    """Measures all ways, prints a table and writes it."""
    draws, table = np.random.default_rng(0), {}
    x0 = draws.multivariate_normal(MEAN, COVARIANCE)
    keys = jax.random.split(jax.random.key(0), N)
    x_1 = jax.random.normal(jax.random.key(1), (N, D))
    for problem, a in PROBLEMS.items():
        for noise in (0.0, 0.3):
            y = a @ x0 + noise * draws.normal(size=len(a))
            mean, covariance = posterior(a, noise, y)
            free = np.diag(covariance) > 1e-6
            deviation = np.sqrt(np.diag(covariance)[free])
            rows = table[f'{problem}, noise {noise}'] = {}
            for name, (denoise, sampler, times) in ways(a, noise, y, x0).items():
                run = jax.jit(
                    lambda d=denoise, s=sampler, t=times: diffusion.sample(keys, d, s, x_1, t)
                )
                found = np.asarray(run(), np.float64)[:, free]
                rows[name] = {
                    'mean': float(np.abs((found.mean(0) - mean[free]) / deviation).max()),
                    'variance': float(np.mean(found.var(0) / deviation**2)),
                }
                print(f'{problem}, noise {noise}: {name}: {rows[name]}', flush=True)
    found = {'samples': N, 'steps': STEPS, 'table': table, 'made': manifest.here()}
    path = pathlib.Path(__file__).with_name('gaussian.json')
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + '\n')


if __name__ == '__main__':
    main()
