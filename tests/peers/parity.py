"""The parity table: `PYTHONPATH=.:tests python -m peers.parity > docs/parity.md`, a minute."""

import datetime

import diffusers
import jax
import numpy as np
import torch
from peers.walks import Case, both

LEADING = {'timestep_spacing': 'leading'}
TRAILING = {'timestep_spacing': 'trailing'}
LINSPACE = {'timestep_spacing': 'linspace'}
KARRAS = {'use_karras_sigmas': True}
SDE = {'algorithm_type': 'sde-dpmsolver++'}
LAST_TIMESTEP = {'final_sigmas_type': 'sigma_min', 'lower_order_final': False}

DDPM, DDIM, DPM = 'DDPMScheduler', 'DDIMScheduler', 'DPMSolverMultistepScheduler'
UNIPC, DEIS, HEUN = 'UniPCMultistepScheduler', 'DEISMultistepScheduler', 'HeunDiscreteScheduler'
EULER, ANCESTRAL = 'EulerDiscreteScheduler', 'EulerAncestralDiscreteScheduler'
FLOW = 'FlowMatchEulerDiscreteScheduler'
LINEAR, SCALED, COSINE = 'linear', 'scaled_linear', 'squaredcos_cap_v2'

CASES = [
    Case(DDPM, 'ddpm', LINEAR, 'epsilon', LEADING),
    Case(DDPM, 'ddpm', LINEAR, 'epsilon', LINSPACE),
    Case(DDPM, 'ddpm', LINEAR, 'epsilon', LEADING, clip=True),
    Case(DDPM, 'ddpm', COSINE, 'v_prediction', TRAILING),
    Case(
        DDPM,
        'ddpm',
        SCALED,
        'sample',
        LEADING | {'variance_type': 'fixed_large'},
        {'variance': 'large'},
    ),
    Case(
        DDPM,
        'ddpm',
        LINEAR,
        'epsilon',
        LEADING | {'variance_type': 'learned_range'},
        {'variance': 'learned'},
    ),
    Case(DDIM, 'ddim', SCALED, 'sample', LEADING),
    Case(
        DDIM,
        'ddim',
        SCALED,
        'sample',
        LEADING | {'steps_offset': 1, 'set_alpha_to_one': False},
        end=0.001,
    ),
    Case(DDIM, 'ddim', LINEAR, 'epsilon', LEADING, {'eta': 0.5}),
    Case(DDIM, 'ddim', COSINE, 'v_prediction', TRAILING, {'eta': 1.0}),
    Case(DDIM, 'ddim', 'zero_snr', 'v_prediction', TRAILING),
    Case(DPM, 'dpmpp_1s', SCALED, 'sample', {'solver_order': 1}),
    Case(DPM, 'dpmpp_2m', LINEAR, 'epsilon', LINSPACE),
    Case(DPM, 'dpmpp_2m', LINEAR, 'epsilon', TRAILING),
    Case(DPM, 'dpmpp_2m', LINEAR, 'epsilon', LINSPACE | LAST_TIMESTEP, end=0.001),
    Case(DPM, 'dpmpp_2m', COSINE, 'v_prediction', TRAILING),
    Case(DPM, 'dpmpp_2m', COSINE, 'v_prediction', KARRAS),
    Case(DPM, 'dpmpp_2m_sde', SCALED, 'v_prediction', SDE),
    Case(DPM, 'dpmpp_2m_sde', COSINE, 'sample', SDE | TRAILING),
    Case(UNIPC, 'unipc', LINEAR, 'epsilon', LINSPACE),
    Case(UNIPC, 'unipc', COSINE, 'v_prediction', TRAILING),
    Case(
        UNIPC,
        'unipc',
        SCALED,
        'sample',
        LAST_TIMESTEP | {'solver_type': 'bh1'},
        {'variant': 'bh1'},
        end=0.001,
    ),
    Case(
        UNIPC,
        'unipc',
        SCALED,
        'v_prediction',
        LAST_TIMESTEP | {'solver_order': 3},
        {'p': 3},
        end=0.001,
    ),
    Case(HEUN, 'heun', LINEAR, 'epsilon', LINSPACE),
    Case(HEUN, 'heun', SCALED, 'v_prediction', KARRAS),
    Case(EULER, 'euler', LINEAR, 'epsilon', LINSPACE),
    Case(EULER, 'euler', LINEAR, 'epsilon', KARRAS),
    Case(EULER, 'euler', COSINE, 'v_prediction', LEADING),
    Case(ANCESTRAL, 'euler_ancestral', LINEAR, 'epsilon', LINSPACE),
    Case(FLOW, 'euler', 'flow', 'flow', {}, {'variable': 't'}),
    Case(FLOW, 'euler', 'flow_3', 'flow', {'shift': 3.0}),
    Case(FLOW, 'consistency', 'flow', 'flow', {'stochastic_sampling': True}),
    Case(
        DEIS,
        'deis',
        LINEAR,
        'epsilon',
        {'solver_order': 1, 'lower_order_final': False},
        {'order': 1},
        0.001,
    ),
    Case(DEIS, 'deis', 'log_linear', 'sample', {'lower_order_final': False}, end=0.001),
]
KEEP_DOUBLE = (DDPM, DDIM, HEUN, UNIPC)

DIFFERENCES = {
    DDPM: "'fixed_large' and 'learned_range' add noise in the last step too, unless its timestep is 0; "
    'ours never does. By default the peer clips the belief to ±1: `denoiser.clip`.',
    DDIM: 'It steps by 1000 // steps whatever its grid, and so past the next timestep of `linspace` and, '
    'where steps do not divide 1000, of `trailing`. Where the belief is clipped, eps is not made anew '
    'without `use_clipped_model_output`; ours always is.',
    DPM: 'It falls back to lower orders in the last steps (`lower_order_final` below 15 steps, '
    '`euler_at_final`); ours does not, and a step to sigma = 0 needs it not. Order 3 lacks a factor 2, '
    'as the published formula does, and starts with order 1, ours with 2S: with both put right the '
    'trajectories agree. Of two equal timesteps it starts at the second, unless `set_begin_index` is '
    "called. Karras' timesteps are rounded before the model is told.",
    UNIPC: "`lower_order_final` as above; 'bh1' is NaN in a step to sigma = 0.",
    HEUN: 'Its sample is x / alpha. On the cosine from t = 1, where alpha is 5e-5, its float32 schedule '
    'leads elsewhere by 0.1; with the schedule in float64 it agrees.',
    EULER: 'Its sample is x / alpha. Between whole timesteps sigma is interpolated, with us log alpha².',
    ANCESTRAL: 'Its sample is x / alpha. It is DDIM with eta = 1.',
    FLOW: 'The default grid shifts its last sigma twice; given sigmas, as pipelines do, it is '
    '`grid.uniform`. The timestep is 1000 sigma. `stochastic_sampling` is the sampler `consistency`.',
    DEIS: 'The polynomial is in log(sigma / alpha), ours in t: another trajectory from order 2 on, and '
    'the same one on a schedule where that is a line in t (the second case here). It ends at timestep '
    '0, not at sigma = 0.',
}

HEAD = """# Parity with diffusers

Measured on {date} with diffusers {diffusers}, torch {torch} and jax {jax}, on a CPU, by
`PYTHONPATH=.:tests python -m peers.parity > docs/parity.md`; `tests/peers/test_diffusers.py` holds it.

Both sides ask one model, exact for a mixture of Gaussians, and take {steps} steps on one grid from one
start, with one noise. A figure is the largest difference of any component after any step. Ours is
computed in float64; *as it is* the peer makes its schedule in float32; *in float64* it was given the
schedule in float64, where its steps then keep it. Timestep i is our t = (i + 1) / 1000. The
schedules are diffusers' `beta_schedule`; `zero_snr` is `linear` with `rescale_betas_zero_snr`,
`log_linear` has log(sigma / alpha) a line in t, `flow_3` is `flow` with `shift=3`; `flow` as a
prediction is eps − x0.

| diffusers | jaxdiff | schedules | predictions | as it is | in float64 | differences, each with a test |
| --- | --- | --- | --- | --- | --- | --- |"""

FOOT = """
Schedules, grids and targets, each with a test:

- The schedules agree to float32's rounding, which in the peer's ᾱ is 1e-6 of it, 1.3e-5 at the cosine's
  last timestep, and 5e-4 of 1 − ᾱ at timestep 0. `rescale_betas_zero_snr` keeps alpha at timestep 0,
  `schedule.zero_terminal_snr` at t = 0: 3e-5 of alpha on `scaled_linear`.
- `grid.leading` and `grid.trailing` are the peer's; but the multi-step schedulers' 'leading' is that
  of one more step without its last timestep. For 62 of the step counts up to 1000 (61, 103, …) the
  peer's 'trailing' makes a step too many, to timestep −1; for some others (48, 80, …) a timestep that
  is a half before rounding goes the other way. 'linspace' is `grid.uniform(steps - 1, 1.0, 0.001)`,
  rounded, and then 0.
- `grid.karras` has the peer's levels, given the schedule's own range; the times differ by 1e-2 of a
  timestep, or by up to a half in DPM-Solver, which rounds them.
- `add_noise`, `scale_noise` and `get_velocity` are `gaussian.marginal` (divided by alpha where the
  sample is x / alpha) and the target of `prediction.v`."""


def name(case):
    """A case in a few words."""
    options = [f'{k}={v}' for k, v in (case.options | case.settings).items()]
    return ','.join([case.peer.removesuffix('Scheduler'), case.sampler, case.schedule, *options])


def rows(measure=True):
    """The table's rows, one for each scheduler and sampler; without figures unless `measure`."""
    groups = {}
    for case in CASES:
        groups.setdefault(case.peer, []).append(case)
    return [_row(peer, cases, measure) for peer, cases in groups.items()]


def _row(peer, cases, measure):
    largest = lambda **options: max(np.abs(np.subtract(*both(c, **options))).max() for c in cases)
    single = double = '–'
    if measure:
        single = f'{largest():.1e}'
        double = f'{largest(double=True):.1e}' if peer in KEEP_DOUBLE else '–'
    calls = [_call(case) for case in cases]
    listed = lambda values: ', '.join(dict.fromkeys(values))
    cells = [
        f'`{peer}`',
        listed(f'`{call}`' for call in calls),
        listed(case.schedule for case in cases),
        listed(case.prediction for case in cases),
        single,
        double,
        DIFFERENCES[peer],
    ]
    return f'| {" | ".join(cells)} |'


def _call(case):
    return f'{case.sampler}({", ".join(f"{k}={v!r}" for k, v in case.settings.items())})'


if __name__ == '__main__':
    versions = {'diffusers': diffusers.__version__, 'torch': torch.__version__}
    today = datetime.date.today().isoformat()
    print(HEAD.format(date=today, jax=jax.__version__, steps=CASES[0].steps, **versions))
    with jax.enable_x64(True):
        print(*rows(), FOOT, sep='\n')
