"""Pictures of what diffusion does: grids, film strips, animations, curves."""
