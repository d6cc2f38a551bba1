"""A case by PyTorch, eager: `python theirs.py CASE FOLDER`; it leaves its weights and what they give there."""

import os
import pathlib
import sys
import time

import cases
import numpy as np
import safetensors.torch
import torch
import worker
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional as F


def main() -> None:
    """Draws weights, leaves them, and works."""
    case, folder = cases.CASES[sys.argv[1]], pathlib.Path(sys.argv[2])
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    h, w, c = case.shape
    model = unet(case) if case.net['name'] == 'unet' else DiT(case)
    for weight in model.parameters():  # for some start at zero
        nn.init.normal_(weight, std=0.7 * weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1)
    x, level = torch.randn(4, c, h, w), torch.tensor([3.0, 100.0, 500.0, 999.0])
    with torch.no_grad():
        y = ask(model, x, level)
    safetensors.torch.save_file(model.state_dict(), folder / 'weights.safetensors')
    last = lambda a: a.permute(0, 2, 3, 1).numpy()
    np.savez(folder / 'given.npz', x=last(x), level=level.numpy(), y=last(y))
    began = time.perf_counter()
    work = training(model, case) if case.work == 'train' else sampling(model, case)
    work()
    first = time.perf_counter() - began
    count = sum(weight.numel() for weight in model.parameters())
    worker.serve(work, parameters=count, first=first, threads=threads)


def ask(model, x, t):
    """What the network says, [b, c, h, w]."""
    y = model(x, t)
    return y if isinstance(y, torch.Tensor) else y.sample


def training(model, case):
    """One step: noise, loss, gradient clipped at norm 1, Adam, average of the parameters."""
    h, w, c = case.shape
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    scheduler, average = DDPMScheduler(), EMAModel(model.parameters(), decay=0.999, foreach=True)
    images = torch.randint(256, (case.batch, c, h, w), dtype=torch.uint8)

    def work():
        x0 = images / 127.5 - 1
        t, noise = torch.randint(1000, (len(x0),)), torch.randn_like(x0)
        loss = F.mse_loss(ask(model, scheduler.add_noise(x0, noise, t), t), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.step(model.parameters())
        return loss.item()

    return work


def sampling(model, case):
    """A batch of samples by DDIM."""
    h, w, c = case.shape
    scheduler = DDIMScheduler(timestep_spacing='trailing')
    scheduler.set_timesteps(cases.STEPS)

    @torch.no_grad()
    def work():
        x = torch.randn(case.batch, c, h, w)
        for t in scheduler.timesteps:
            x = scheduler.step(ask(model, x, t), t, x).prev_sample
        return ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8).numpy()

    return work


def unet(case):
    """diffusers' UNet2DModel with as many groups in its norms as ours has."""
    from jaxdiff.nets.layers import group_count

    net, size = case.net, case.shape[0]
    attends = [size >> i in net['attention'] for i in range(len(net['multipliers']))]
    model = UNet2DModel(
        sample_size=size,
        in_channels=case.shape[2],
        out_channels=case.shape[2],
        block_out_channels=[net['channels'] * m for m in net['multipliers']],
        layers_per_block=1,
        down_block_types=['AttnDownBlock2D' if a else 'DownBlock2D' for a in attends],
        up_block_types=['AttnUpBlock2D' if a else 'UpBlock2D' for a in reversed(attends)],
        norm_num_groups=8,
        freq_shift=1,
        flip_sin_to_cos=False,
        downsample_padding=0,
        attention_head_dim=None,
        norm_eps=1e-6,
    )
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = group_count(module.num_channels)
    return model


class DiT(nn.Module):
    """The transformer of Peebles and Xie (2023), adaLN-zero, plainly; its layers have our names."""

    def __init__(self, case):
        super().__init__()
        net, (size, _, c) = case.net, case.shape
        width, self.patch, self.side = net['width'], net['patch'], size // net['patch']
        self.noise_dense_0 = nn.Linear(256, width)
        self.noise_dense_1 = nn.Linear(width, width)
        self.patches = nn.Linear(self.patch**2 * c, width)
        for i in range(net['depth']):
            setattr(self, f'block_{i}', Block(width, net['heads']))
        self.blocks = [getattr(self, f'block_{i}') for i in range(net['depth'])]
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, self.patch**2 * c)
        self.positions = torch.tensor(sincos((self.side, self.side), width), dtype=torch.float32)

    def forward(self, x, t):
        b, c, p, n = len(x), x.shape[1], self.patch, self.side
        frequencies = 1e-4 ** torch.linspace(0, 1, 128)
        angles = t.expand(b).float()[:, None] * frequencies
        e = self.noise_dense_0(torch.cat([angles.sin(), angles.cos()], 1))
        e = self.noise_dense_1(F.silu(e))
        h = x.reshape(b, c, n, p, n, p).permute(0, 2, 4, 3, 5, 1).reshape(b, n * n, p * p * c)
        h = self.patches(h) + self.positions
        for block in self.blocks:
            h = block(h, e)
        shift, scale = self.modulation(F.silu(e))[:, None].chunk(2, -1)
        h = self.out(normal(h) * (1 + scale) + shift)
        return h.reshape(b, n, n, p, p, c).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)


class Block(nn.Module):
    """Attention and a layer of two products, each shifted, scaled and gated by the noise level."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        for name in ('query', 'key', 'value', 'out'):
            setattr(self, name, nn.Linear(width, width))
        self.modulation = nn.Linear(width, 6 * width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, e):
        shift_0, scale_0, gate_0, shift_1, scale_1, gate_1 = self.modulation(F.silu(e))[
            :, None
        ].chunk(6, -1)
        h = normal(x) * (1 + scale_0) + shift_0
        split = lambda a: a.reshape(*a.shape[:2], self.heads, -1).transpose(1, 2)
        h = F.scaled_dot_product_attention(
            *(split(f(h)) for f in (self.query, self.key, self.value))
        )
        x = x + gate_0 * self.out(h.transpose(1, 2).reshape(x.shape))
        h = normal(x) * (1 + scale_1) + shift_1
        return x + gate_1 * self.mlp_out(F.gelu(self.mlp_in(h), approximate='tanh'))


def normal(x):
    """To mean 0 and variance 1."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def sincos(*given):
    """Our positions."""
    from jaxdiff.nets import positions

    return np.asarray(positions.sincos(*given))


if __name__ == '__main__':
    main()
