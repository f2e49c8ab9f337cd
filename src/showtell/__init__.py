"""Showtell: image captioning. `Captioner.load(folder).caption(images)` captions images with a trained model."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from showtell.generation.captioner import Captioner

__all__ = ["Captioner"]


def __getattr__(name: str) -> Any:
    # Lazy: importing torch takes seconds, and `import showtell` must not.
    if name == "Captioner":
        from showtell.generation.captioner import Captioner

        return Captioner
    raise AttributeError(f"module 'showtell' has no attribute {name!r}")
