"""Settings for one's own photographs, chosen by their number and by the machine."""

import importlib.util
from typing import Any, NamedTuple

from showtell.commands import recipe

# Recipes whose epochs are for some 6,000 images, and which get a schedule
FOR_PHOTOGRAPHS = ("photographs", "photographs-efficientnet", "photographs-transformer", "photographs-gpu")
IMAGES_A_WORD = 20  # a word to detect occurs with one of so many train images, or with as many as the recipe wants
REWARDS = 5  # epochs of `reinforce`, which the recipe leaves out, if it is asked for
# Sections with warm-up, the stage whose updates it is counted in, and how often it fits into these at least
WARMING = (("learning", "train", 10), ("pretrain", "pretrain", 5), ("reinforce", "reinforce", 10))


class Settings(NamedTuple):
    """The changes of params.yaml, and the reason for the choice."""

    overlay: recipe.Params
    why: str


def settings_for(images: int, name: str | None = None) -> Settings:
    """The recipe `name`, or this machine's; recipes for photographs get a schedule for `images` train images."""
    chosen, reason = (name, "asked for") if name is not None else recipe_for_machine()
    overlay = recipe.merged([chosen])
    overlay.pop("scenes", None)  # settings of another dataset
    if recipe.own_name(chosen) not in FOR_PHOTOGRAPHS:
        return Settings(overlay, f"{chosen} ({reason})")
    schedule = schedule_for(images, overlay)
    changes = ", ".join(f"{key} {value}" for key, value in recipe.flat(schedule))
    return Settings(recipe.laid_over(overlay, schedule), f"{chosen} ({reason}; {images} train images: {changes})")


def recipe_for_machine() -> tuple[str, str]:
    """The recipe for photographs that this machine can train in hours, and the reason."""
    from showtell.core.precision import accelerated  # imported late: torch takes seconds

    if not accelerated():
        return "photographs", "no GPU; with timm, --recipe photographs-efficientnet is slower and better"
    if importlib.util.find_spec("timm") is None:
        return "photographs", "a GPU, but no timm: pip install timm for photographs-gpu"
    return "photographs-gpu", "a GPU"


def schedule_for(images: int, overlay: recipe.Params) -> recipe.Params:
    """Epochs, warm-up, vocabulary and words to detect for so many train images.

    The recipes' epochs are meant for some 6,000 images. With fewer an epoch has fewer updates, so that more are needed:
    the best one on val is kept. Rewards learn few images by heart, so that their epochs grow less. Many images need
    fewer epochs. With few captions, the minimum count of a vocabulary word is lower, and a word to detect occurs with
    fewer images. The learning rate rises over a tenth of a stage's updates at most, a fifth of pretraining's few.
    """
    passes = 0.5 if images >= 50_000 else min(8.0, max(1.0, 4_000 / max(images, 1)))
    schedule: dict[str, dict[str, Any]] = {"vocab": {"min_count": 2 if images < 1_000 else 5}}
    if images // IMAGES_A_WORD < overlay["detection"]["min_images"]:
        schedule["detection"] = {"min_images": max(2, images // IMAGES_A_WORD)}
    disabled = {"pretrain"} if overlay["pretrain"]["enabled"] is not True else set()
    for stage in ("pretrain", "train", "finetune", "reinforce"):
        if overlay[stage]["epochs"] and stage not in disabled:  # what the recipe disables stays disabled
            times = min(passes, 2.0) if stage == "reinforce" else passes
            schedule[stage] = {"epochs": max(1, round(overlay[stage]["epochs"] * times))}
    for section, stage, part in WARMING:
        if stage not in disabled:
            epochs = schedule.get(stage, {}).get("epochs", REWARDS)
            updates = -(-images // overlay[stage]["images_per_update"]) * epochs
            most = overlay[section]["warmup_updates"]
            schedule.setdefault(section, {})["warmup_updates"] = min(most, updates // part)
    return schedule
