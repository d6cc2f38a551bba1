"""Other people's weights and formats: feature networks, state dicts, safetensors, StableHLO."""

from jaxdiff.interop import inception, mobilenet, safetensors, stablehlo, torch_file, unet2d

__all__ = ['inception', 'mobilenet', 'safetensors', 'stablehlo', 'torch_file', 'unet2d']
