"""The embedded dataset: drawn scenes with five captions each, generated from a seed."""

from showtell.data.datasets.scenes.generate import ScenesParams, generate

__all__ = ["ScenesParams", "generate"]
