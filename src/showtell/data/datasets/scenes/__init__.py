"""The embedded dataset: drawn scenes, captioned as five people would, generated from a seed."""

from showtell.data.datasets.scenes.generate import ScenesParams, generate

__all__ = ["ScenesParams", "generate"]
