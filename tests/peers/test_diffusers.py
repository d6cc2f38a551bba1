"""jaxdiff against diffusers: the same trajectories, and each difference with its reason."""

import pathlib
import re
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion import gaussian, grid, prediction, schedule

pytest.importorskip('torch')
pytest.importorskip('diffusers')

import diffusers  # noqa: E402
import torch  # noqa: E402
from peers import parity, walks  # noqa: E402
from peers.parity import COSINE, DDIM, DDPM, DEIS, DPM, EULER, HEUN, LINEAR, SCALED, UNIPC  # noqa: E402
from peers.walks import SCHEDULES, Case  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures('x64'),
    pytest.mark.filterwarnings('ignore:__array_:DeprecationWarning:diffusers'),
]
TOLERANCE = 1e-4


def apart(case, **options):
    """How far the trajectories are apart after each step."""
    return np.subtract(*walks.both(case, **options)).__abs__().max((1, 2))


@pytest.mark.parametrize('case', parity.CASES, ids=parity.name)
def test_trajectories_agree(case):
    """At every step; in float64 to rounding, where the peer keeps to it once its schedule does.

    There 1e-9, not 1e-12, for the peer takes 1 − ᾱ and quotients of ᾱ where ᾱ is nearly 0 or 1.
    """
    assert apart(case).max() < TOLERANCE
    if case.peer in parity.KEEP_DOUBLE:
        assert apart(case, double=True).max() < 1e-9


# --- schedules, grids and losses ---------------------------------------------------------------


@pytest.mark.parametrize('name', [LINEAR, SCALED, COSINE])
def test_schedules(name):
    """timestep i is our t = (i + 1) / 1000. The peer's are float32: ᾱ is a product of 1000 rounded
    factors, of which the cosine's last is 1 − 0.999, and 1 − ᾱ at timestep 0 has three digits."""
    peer = walks.scheduler_of(Case(DDPM, '', name, 'epsilon')).alphas_cumprod.numpy()
    alpha, sigma = SCHEDULES[name](jnp.arange(1, 1001) / 1000)
    np.testing.assert_allclose(peer, alpha**2, atol=1e-6)
    np.testing.assert_allclose(peer[:-1], alpha[:-1] ** 2, rtol=2e-6)
    np.testing.assert_allclose(peer[-1], alpha[-1] ** 2, rtol=2e-5)
    np.testing.assert_allclose(1 - peer, sigma**2, rtol=1e-3)


def test_the_rescaling_to_zero_terminal_snr_keeps_another_point():
    """Both end at alpha = 0. The peer keeps alpha at its first timestep, as the paper's algorithm
    does; ours keeps alpha(0) = 1, for time is continuous. The ratio is one number for all times."""
    options = {'rescale_betas_zero_snr': True}
    peer = walks.scheduler_of(Case(DDPM, '', SCALED, 'v_prediction', options))
    before, _ = SCHEDULES[SCALED](jnp.arange(1, 1001) / 1000)
    alpha, _ = schedule.zero_terminal_snr(SCHEDULES[SCALED])(jnp.arange(1, 1001) / 1000)
    found = np.sqrt(peer.alphas_cumprod.numpy())
    assert found[-1] == alpha[-1] == 0
    ratio = before[0] * (1 - before[-1]) / (before[0] - before[-1])
    assert 2e-5 < abs(ratio - 1) < 4e-5
    np.testing.assert_allclose(found, ratio * alpha, atol=2e-6)
    assert np.abs(found - alpha).max() > 1e-5


@pytest.mark.parametrize('steps', [7, 10, 30])
def test_grids_of_whole_timesteps(steps):
    def peer(name, **options):
        return walks.times_of(
            Case(name, '', LINEAR, 'epsilon'),
            walks.scheduler_of(Case(name, '', LINEAR, 'epsilon', options, steps=steps)),
        )

    for name in (DDPM, DDIM, EULER):
        found = peer(name, timestep_spacing='leading', steps_offset=1)
        np.testing.assert_allclose(grid.leading(steps), found, atol=1e-12)
    for name in (DDPM, DDIM, EULER, DPM, UNIPC):
        found = peer(name, timestep_spacing='trailing')
        np.testing.assert_allclose(grid.trailing(steps), found, atol=1e-12)
    # The multi-step schedulers' 'leading' is that of one step more, without its last timestep.
    found = peer(DPM, timestep_spacing='leading', steps_offset=1)
    expected = np.append(grid.leading(steps + 1)[:-2], 0)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    # 'linspace' runs from t = 1 to 0.001, both visited, then to 0: `grid.uniform`, rounded.
    found = peer(DDPM, timestep_spacing='linspace')
    expected = np.append(grid.uniform(steps - 1, 1.0, 0.001), 0)
    np.testing.assert_allclose(found, expected, atol=0.0005 + 1e-12)


def test_trailing_grids_that_differ():
    """1000 / 61 added 61 times is less than 1000 by rounding: the peer then makes 62 steps, the last
    one to timestep −1. And 1000 (1 − 3 / 48) = 937.5: which way a half goes is rounding too."""
    case = Case(DDPM, '', LINEAR, 'epsilon', parity.TRAILING)
    timesteps = walks.scheduler_of(case._replace(steps=61)).timesteps.numpy()
    assert len(timesteps) == 62 and timesteps[-1] == -1
    np.testing.assert_allclose(1000 * grid.trailing(61)[:-1] - 1, timesteps[:-1], atol=1e-9)
    timesteps = walks.scheduler_of(case._replace(steps=48)).timesteps.numpy()
    found = 1000 * grid.trailing(48)[:-1] - 1 - timesteps
    assert np.abs(found).max() == pytest.approx(1) and np.sum(np.abs(found) > 0.5) == 4


@pytest.mark.parametrize('name', [EULER, HEUN, DPM])
def test_karras_grids(name):
    """The same levels. The peer finds their timesteps by interpolating log sigma, we log alpha²:
    1e-3 of a timestep; but DPM-Solver's are rounded to whole ones before the model is told."""
    case = Case(name, '', LINEAR, 'epsilon', parity.KARRAS)
    peer, make = walks.scheduler_of(case), SCHEDULES[LINEAR]
    levels = walks.distinct(peer.sigmas)
    found = grid.karras(make, 10, sigma_min=levels[-2], sigma_max=levels[0])
    alpha, sigma = make(found)
    np.testing.assert_allclose(sigma / alpha, levels, rtol=1e-6)
    told = peer.timesteps.numpy()[[0, *range(1, 19, 2)] if name == HEUN else slice(None)]
    error = np.abs(1000 * found[:-1] - 1 - told).max()
    assert 0.1 < error <= 0.51 if name == DPM else error < 2e-2, error


def test_between_whole_timesteps_the_peer_interpolates_sigma():
    """Euler's and Heun's 'linspace' need not be whole; sigma is then linear between timesteps, and
    with us log alpha² is: 5e-6 of sigma at most."""
    peer = walks.scheduler_of(Case(EULER, '', LINEAR, 'epsilon', parity.LINSPACE, steps=9))
    alpha, sigma = SCHEDULES[LINEAR]((peer.timesteps.numpy().astype(float) + 1) / 1000)
    error = np.abs(peer.sigmas.numpy()[:-1] / (sigma / alpha) - 1)
    assert 2e-6 < error[:-1].max() < 1e-5, error


def test_noising_and_targets():
    x0, eps = np.asarray(walks.start()), walks.noise()[0]
    timesteps = np.array([0, 111, 500, 999])
    t, make = (timesteps + 1) / 1000, SCHEDULES[SCALED]
    x_t, c = gaussian.marginal(make, x0, eps, t), schedule.coefficients(make, t, x0)
    data, noise, at = torch.tensor(x0), torch.tensor(eps), torch.tensor(timesteps)
    for name in (DDPM, DDIM):
        peer = walks.scheduler_of(Case(name, '', SCALED, 'v_prediction'))
        np.testing.assert_allclose(peer.add_noise(data, noise, at), x_t, atol=1e-5)
        v = prediction.target(prediction.v, c, x0, eps)
        np.testing.assert_allclose(peer.get_velocity(data, noise, at), v, atol=1e-5)
    peer = walks.scheduler_of(Case(EULER, '', SCALED, 'epsilon', steps=1000))  # x_t / alpha
    np.testing.assert_allclose(peer.add_noise(data, noise, at.float()), x_t / c.alpha, atol=1e-4)
    peer = diffusers.FlowMatchEulerDiscreteScheduler()
    at = peer.timesteps[[0, 300, 600, 999]]
    expected = gaussian.marginal(schedule.flow(), x0, eps, at.numpy().astype(float) / 1000)
    np.testing.assert_allclose(peer.scale_noise(data, at, noise), expected, atol=1e-6)


# --- what differs, and why ---------------------------------------------------------------------


def test_the_large_variances_last_step():
    """The peer leaves the noise out at timestep 0, not in the step to sigma = 0: on a grid whose last
    timestep is later, 'fixed_large' adds noise of variance β to the sample. Ours is the belief."""
    case = Case(DDPM, 'ddpm', SCALED, 'sample', parity.TRAILING, {'variance': 'large'})
    case = case._replace(options=case.options | {'variance_type': 'fixed_large'})
    mine, peers = walks.both(case)
    np.testing.assert_allclose(mine[:-1], peers[:-1], atol=TOLERANCE)
    beta = SCHEDULES[SCALED](0.1)[1] ** 2
    added = np.sqrt(beta) * walks.noise()[-1]
    assert np.abs(added).max() > 0.1
    np.testing.assert_allclose(mine[-1], peers[-1] - added, atol=TOLERANCE)


def test_the_learned_variances_last_step():
    """The same with 'learned_range', between log 1e-20 (for the posterior's 0) and log β."""
    case = Case(DDPM, 'ddpm', LINEAR, 'epsilon', parity.TRAILING, {'variance': 'learned'})
    case = case._replace(options=case.options | {'variance_type': 'learned_range'})
    mine, peers = walks.both(case)
    np.testing.assert_allclose(mine[:-1], peers[:-1], atol=TOLERANCE)
    nu = (walks.model(case, mine[-2], 0.1)[:, 3:] + 1) / 2
    beta = SCHEDULES[LINEAR](0.1)[1] ** 2
    added = np.sqrt(1e-20 ** (1 - nu) * beta**nu) * walks.noise()[-1]
    assert np.abs(added).max() > 1e-3
    np.testing.assert_allclose(mine[-1], peers[-1] - added, atol=TOLERANCE)


@pytest.mark.parametrize(('spacing', 'steps'), [('linspace', 10), ('trailing', 7)])
def test_ddims_step_is_not_to_its_next_timestep(spacing, steps):
    """DDIMScheduler steps by 1000 // steps, whatever the grid: on 'linspace' from 999 to 899, and the
    next step takes x as being at 888. (DDPMScheduler looks the next timestep up.)"""
    case = Case(DDIM, 'ddim', SCALED, 'sample', {'timestep_spacing': spacing}, steps=steps)
    scheduler = walks.scheduler_of(case)
    times = walks.times_of(case, scheduler)
    peers = walks.theirs(case, scheduler, times)
    assert np.abs(walks.ours(case, times) - peers).max() > 10 * TOLERANCE
    first = walks.ours(case, jnp.append(times[0], times[0] - 1000 // steps / 1000))
    np.testing.assert_allclose(first[0], peers[0], atol=TOLERANCE)


def test_clipping_in_ddim():
    """Where x0 is clipped, the peer goes on with the model's unclipped eps, so that its x_t is no
    longer alpha x0 + sigma eps; with `use_clipped_model_output` eps is made anew, as ours always is."""
    case = Case(DDIM, 'ddim', SCALED, 'sample', parity.LEADING, clip=True)
    assert apart(case).max() > 1e-2
    assert apart(case, use_clipped_model_output=True).max() < TOLERANCE
    assert apart(case, use_clipped_model_output=True, double=True).max() < 1e-9
    unclipped, _ = walks.both(case._replace(clip=False))
    assert np.abs(unclipped - walks.both(case)[0]).max() > 1e-2


@pytest.mark.parametrize('option', ['euler_at_final', 'lower_order_final'])
def test_2m_falls_to_first_order_before_the_end(option):
    """On a grid that ends above sigma = 0 the peer's last step is of first order, if asked or if there
    are fewer than 15. Ours never falls back: to sigma = 0 each order gives the belief."""
    lowered = {'final_sigmas_type': 'sigma_min', 'lower_order_final': False} | {option: True}
    case = Case(DPM, 'dpmpp_2m', LINEAR, 'epsilon', parity.LINSPACE | lowered, end=0.001)
    mine, peers = walks.both(case)
    np.testing.assert_allclose(mine[:-1], peers[:-1], atol=TOLERANCE)
    assert np.abs(mine[-1] - peers[-1]).max() > 2 * TOLERANCE
    first_order, times = (
        case._replace(sampler='dpmpp_1s'),
        walks.times_of(case, walks.scheduler_of(case)),
    )
    expected = walks.ours(first_order, times[-2:], mine[-2])[0]
    np.testing.assert_allclose(peers[-1], expected, atol=TOLERANCE)


def test_3m_has_the_factor_that_the_published_formula_lacks():
    """The second difference of a parabola is 2 (D1_0 − D1_1) / (r0 + r1); paper and peer lack the 2.
    With it, and with our first step (2S; theirs is of first order), the peer's trajectory is ours."""
    options = parity.LINSPACE | {'solver_order': 3, 'lower_order_final': False}
    case = Case(DPM, 'dpmpp_3m', LINEAR, 'epsilon', options)
    scheduler = walks.scheduler_of(case)
    times = walks.times_of(case, scheduler)
    mine = walks.ours(case, times)
    published = walks.theirs(case, scheduler, times, first=mine[0])
    np.testing.assert_allclose(mine[1], published[1], atol=TOLERANCE)  # 2M in both
    assert np.abs(mine - published)[2:].max() > 1e-3
    make = diffusers.DPMSolverMultistepScheduler
    formula = make.multistep_dpm_solver_third_order_update

    def corrected(self, beliefs, sample, noise):
        u = self.sigmas[self.step_index - 2 : self.step_index + 2].numpy().astype(float)
        lam = -np.log(u)  # log(alpha / sigma) at the three beliefs and at the end
        h, h0, h1 = lam[3] - lam[2], lam[2] - lam[1], lam[1] - lam[0]
        slopes = [h / h0 * (beliefs[2] - beliefs[1]), h / h1 * (beliefs[1] - beliefs[0])]
        second = (slopes[0] - slopes[1]) * h / (h0 + h1)
        weight = ((np.exp(-h) - 1 + h) / h**2 - 0.5) / np.hypot(1, u[3])
        return formula(self, beliefs, sample=sample, noise=noise) - weight * second

    with mock.patch.object(make, 'multistep_dpm_solver_third_order_update', corrected):
        peers = walks.theirs(case, walks.scheduler_of(case), times, first=mine[0])
    np.testing.assert_allclose(mine[1:], peers[1:], atol=TOLERANCE)


def test_the_first_of_two_equal_timesteps():
    """Near t = 1 Karras' levels fall on one whole timestep, 999, twice, and the peer looks its first
    step up by timestep, takes the second, and runs past its last sigma. Pipelines set the index."""
    case = Case(DPM, 'dpmpp_2m', COSINE, 'v_prediction', parity.KARRAS)
    assert apart(case).max() < TOLERANCE
    with pytest.raises(IndexError):
        apart(case, begin=None)


def test_unipc_bh1_to_sigma_zero():
    """B(h) = h is infinite there and the peer's result NaN; ours is the belief."""
    options = parity.LINSPACE | {'solver_type': 'bh1'}
    case = Case(UNIPC, 'unipc', SCALED, 'sample', options, {'variant': 'bh1'})
    mine, peers = walks.both(case, double=True)
    np.testing.assert_allclose(mine[:-1], peers[:-1], atol=1e-9)
    assert np.all(np.isnan(peers[-1])) and np.all(np.isfinite(mine[-1]))
    t = walks.times_of(case, walks.scheduler_of(case))[-2]
    np.testing.assert_allclose(mine[-1], walks.model(case, mine[-2], t), atol=1e-9)


def test_unipc_3_falls_to_lower_orders_before_the_end():
    """The peer's last step but one is of order 2, by `lower_order_final`; ours is of order 3."""
    options = parity.LINSPACE | {'solver_order': 3}
    case = Case(UNIPC, 'unipc', SCALED, 'v_prediction', options, {'p': 3})
    found = apart(case, double=True)
    assert found[:-2].max() < 1e-9 < 1e-6 < found[-2]


def test_deis_is_a_polynomial_in_another_variable():
    """Ours is in t (tAB-DEIS), the peer's in log(sigma / alpha): they differ on DDPM's schedule and are
    one where that is a line in t (the case 'log_linear' above). The peer ends at timestep 0."""
    case = Case(DEIS, 'deis', LINEAR, 'epsilon', {'lower_order_final': False}, end=0.001)
    found = apart(case)
    assert found[0] < TOLERANCE and found.max() > 1e-2
    assert walks.scheduler_of(case).sigmas[-1] > 0


def test_flow_matching_shifts_its_last_sigma_twice():
    """Its default grid is from sigma_max = 1 to sigma_min, which its constructor has shifted and
    `set_timesteps` shifts again. Given uniform sigmas, as pipelines do, it is `grid.uniform` on
    `schedule.flow(shift)`, and the timestep is 1000 sigma, not 1000 sigma − 1."""
    peer = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    peer.set_timesteps(10)
    shift = lambda t: float(schedule.flow(3.0)(t)[1])
    assert float(peer.sigmas[-2]) == pytest.approx(shift(shift(0.001)), rel=1e-5)
    peer.set_timesteps(sigmas=np.linspace(1, 0.1, 10))
    np.testing.assert_allclose(peer.sigmas, schedule.flow(3.0)(grid.uniform(10))[1], atol=1e-6)
    np.testing.assert_allclose(peer.timesteps, 1000 * peer.sigmas[:-1], rtol=1e-6)


def test_the_cosines_last_timesteps_in_float32():
    """At alpha = 5e-5 an error of 1e-5 in the peer's float32 ᾱ is seen: Heun, whose first step is
    large there in sigma / alpha, goes elsewhere. With the schedule in float64 it goes with ours."""
    case = Case(HEUN, 'heun', COSINE, 'v_prediction', parity.LINSPACE)
    assert apart(case).max() > 1e-2
    assert apart(case, double=True).max() < 1e-6


# --- the table ---------------------------------------------------------------------------------


def test_the_table_in_the_docs_is_this_one():
    """Its rows are the cases above, and each figure in it is below the tolerance."""
    docs = pathlib.Path(__file__).parents[2] / 'docs' / 'parity.md'
    rows = [row for row in docs.read_text().splitlines() if row.startswith('| `')]
    figure = re.compile(r'\d\.\de-\d\d')
    assert [figure.sub('–', row) for row in rows] == parity.rows(measure=False)
    assert all(float(f) < TOLERANCE for row in rows for f in figure.findall(row))
