"""A first sample by PyTorch and diffusers: `first.py FOLDER save` leaves a model, `first.py FOLDER PICTURE` draws of it."""

import sys

import torch
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image


def main() -> None:
    """Saves or draws."""
    folder, out = sys.argv[1:]
    if out == 'save':
        UNet2DModel(
            sample_size=8,
            in_channels=1,
            out_channels=1,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
            up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
            norm_num_groups=8,
            num_class_embeds=11,
        ).save_pretrained(folder)
        return
    model, scheduler = UNet2DModel.from_pretrained(folder), DDIMScheduler()
    scheduler.set_timesteps(50)
    x, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 10
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t, labels).sample, t, x).prev_sample
    tiled = ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8).reshape(2, 8, 8, 8).permute(0, 2, 1, 3)
    Image.fromarray(tiled.reshape(16, 64).numpy()).save(out)


if __name__ == '__main__':
    main()
