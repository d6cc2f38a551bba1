"""Guidance: functions from denoisers to a denoiser, which compose with each other and any sampler."""

from jaxdiff.diffusion.denoiser import Denoiser


def classifier_free(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance: unconditional + scale · (conditional − unconditional).

    `scale` = 0 is the unconditional model, 1 the conditional one, more than 1 exaggerates the
    condition (the paper's w is scale − 1). At a fixed x_t every prediction is an affine function of
    x0 with the same slope, so guiding x0 is guiding eps or v.

    References: Ho and Salimans 2022, arXiv:2207.12598, eq. 6.
    """

    def denoise(x_t, t):
        x0_unconditional = unconditional(x_t, t)
        return x0_unconditional + scale * (conditional(x_t, t) - x0_unconditional)

    return denoise
