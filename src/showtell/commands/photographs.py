"""Settings for one's own photographs, chosen by their number and by the machine."""

import importlib.util
from typing import Any, NamedTuple

from showtell.commands import recipe


class Settings(NamedTuple):
    """What to write into params.yaml, and the reason in words."""

    overlay: recipe.Params
    why: str


def settings_for(images: int, name: str | None = None) -> Settings:
    """The recipe `name`, or the one for this machine, with its schedule for so many train images."""
    chosen, reason = (name, "asked for") if name is not None else recipe_for_machine()
    overlay = recipe.merged([chosen])
    overlay.pop("scenes", None)  # another dataset's affair
    if name is not None:
        return Settings(overlay, f"{chosen} ({reason})")
    schedule = schedule_for(images, overlay)
    changes = ", ".join(f"{key} {value}" for key, value in recipe.flat(schedule))
    return Settings(recipe.laid_over(overlay, schedule), f"{chosen} ({reason}; {images} train images: {changes})")


def recipe_for_machine() -> tuple[str, str]:
    """The recipe for photographs that this machine can train in hours, and why."""
    from showtell.core.precision import accelerated  # torch takes seconds; a wrong command line need not wait for it

    if not accelerated():
        return "photographs", "no GPU"
    if importlib.util.find_spec("timm") is None:
        return "photographs", "a GPU, but no timm: pip install timm for photographs-gpu"
    return "photographs-gpu", "a GPU"


def schedule_for(images: int, overlay: recipe.Params) -> recipe.Params:
    """Passes, warm-up and vocabulary for so many train images.

    The recipes' passes are meant for thousands of images. Few images are learnt by heart soon, but give few updates a
    pass; many images need fewer passes. A word of few captions must occur less often to be learnt.
    """
    passes = 2.0 if images < 2_000 else 1.0 if images < 50_000 else 0.5
    updates = -(-images // overlay["train"]["images_per_update"]) * overlay["train"]["epochs"] * passes
    schedule: dict[str, dict[str, Any]] = {
        "vocab": {"min_count": 2 if images < 1_000 else 5},
        "learning": {"warmup_updates": int(min(overlay["learning"]["warmup_updates"], updates // 10))},
    }
    for stage in ("train", "finetune", "reinforce"):
        if overlay[stage]["epochs"]:  # a stage that the recipe leaves out stays out
            schedule[stage] = {"epochs": max(1, round(overlay[stage]["epochs"] * passes))}
    return schedule
