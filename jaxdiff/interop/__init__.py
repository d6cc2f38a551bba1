"""Models in other people's formats: parameters as safetensors, samplers as StableHLO."""

from jaxdiff.interop import safetensors, stablehlo

__all__ = ['safetensors', 'stablehlo']
