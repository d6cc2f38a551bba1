"""The published configs' optimisers step as PyTorch's do with the papers' settings."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from jaxdiff import build, config as configs

torch = pytest.importorskip('torch')


class Paper(NamedTuple):
    """What a paper, or its code where the paper doesn't say, trains with."""

    rate: float
    warmup: float = 0  # steps, from 0
    clip: float = np.inf  # norm of the gradient
    times: float = 1  # its loss, of ours
    how: dict = {}
    kind: type = torch.optim.Adam


PAPERS = {
    # Ho et al. 2020, appendix B.
    'cifar10': Paper(2e-4, 5000, 1),
    # Song et al. 2021, appendix H; of NCSN++ the loss is half a sum.
    'cifar10_ddpmpp': Paper(2e-4, 5000, 1),
    'cifar10_ncsnpp': Paper(2e-4, 5000, 1, 32 * 32 * 3 / 2),
    # Karras et al. 2022, table 7; the loss is a sum, of ImageNet a hundredfold (their code's --ls=100).
    'cifar10_edm': Paper(1e-3, 10e6 / 512, times=32 * 32 * 3),
    'imagenet64_edm': Paper(1e-4, 10e6 / 4096, times=64 * 64 * 3 * 100),
    # Kingma et al. 2021, appendix B.
    'cifar10_vdm': Paper(
        2e-4, 100, how={'betas': (0.9, 0.99), 'weight_decay': 0.01}, kind=torch.optim.AdamW
    ),
    # Peebles and Xie 2023, section 4.
    'imagenet256_dit': Paper(1e-4, how={'weight_decay': 0.0}, kind=torch.optim.AdamW),
}


@pytest.mark.parametrize('name', PAPERS)
def test_a_published_config_steps_as_its_paper(name):
    """Through the warm-up and beyond, with gradients large enough to be clipped and so small that eps tells."""
    paper = PAPERS[name]
    steps = int(paper.warmup) + 20
    scale = np.asarray([2.0, 1.5, 3e-8, 1e-9])
    gradients = np.random.default_rng(0).normal(1.0, 1.0, (steps, 4)) * scale
    start = np.asarray([1.0, -1.0, 0.5, 2.0])

    optimizer = build.optimizer(configs.load(name, []))

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (params + updates, state), updates

    with jax.enable_x64():
        begun = start, optimizer.init(start)
        _, ours = jax.jit(lambda g: jax.lax.scan(step, begun, g))(gradients / paper.times)

    theirs = torch.nn.Parameter(torch.tensor(start))
    peer = paper.kind([theirs], lr=0.0, eps=1e-8, **paper.how)
    for i, gradient in enumerate(gradients):
        peer.param_groups[0]['lr'] = (
            paper.rate * min(i / paper.warmup, 1) if paper.warmup else paper.rate
        )
        theirs.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_([theirs], paper.clip)
        before = theirs.detach().clone()
        peer.step()
        if i < 20 or i >= steps - 20:
            update = (theirs.detach() - before).numpy()
            np.testing.assert_allclose(ours[i], update, rtol=1e-3, atol=1e-15)  # of float32 rates
