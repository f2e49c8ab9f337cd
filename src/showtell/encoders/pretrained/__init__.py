"""Weights that are part of the package: `encoder.weights` by name. A card beside each file says how it was trained."""

from pathlib import Path

SHIPPED: dict[str, Path] = {"scenes": Path(__file__).with_name("scenes.safetensors")}
