"""timm's names: networks, weights, and the image statistics of their training. Nothing is downloaded."""

import difflib
from types import ModuleType

from showtell.core.errors import UserError, extra
from showtell.data.transform import Filter
from showtell.encoders.backbone import ImageStatistics
from showtell.encoders.weights import WEIGHTS_FILE, WEIGHTS_SUFFIXES

PREFIX = "timm/"


def networks() -> list[str]:
    """timm's networks, as `encoder.name` spells them."""
    return [f"{PREFIX}{name}" for name in timm_package().list_models()]


def image_statistics(name: str, weights: str) -> ImageStatistics:
    """The image statistics of these weights; nothing is read or downloaded."""
    config = timm_package().get_pretrained_cfg(full_name(name, weights))
    filter_: Filter = "bilinear" if config.interpolation in ("bilinear", "random") else "bicubic"
    return ImageStatistics(tuple(config.mean), tuple(config.std), filter_, config.input_size[1])


def licence(name: str) -> str:
    """Licence of the `DEFAULT` weights; empty where timm does not know it."""
    return timm_package().get_pretrained_cfg(name.removeprefix(PREFIX)).license or ""


def full_name(name: str, weights: str) -> str:
    """timm's name of network and weights, NAME or NAME.TAG; `UserError` for unknown ones."""
    timm, asked = timm_package(), name.removeprefix(PREFIX)
    network, dot, tag = asked.partition(".")
    if not timm.is_model(network):
        near = difflib.get_close_matches(network, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`showtell encoders` lists what there is"
        raise UserError(f"encoder.name = {name!r}: timm has no network {network!r}; {hint}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{network}.*")]
    if dot and tag not in tags:
        raise UserError(f"encoder.name = {name!r}: its weights are {', '.join(tags) or 'none'}")
    if weights in ("none", "DEFAULT") or weights.endswith(WEIGHTS_SUFFIXES):
        if weights == "DEFAULT" and not tags:
            raise UserError(f"encoder.weights = 'DEFAULT': timm has no weights of {network}; none, or a file")
        return asked
    if weights not in tags or tag not in ("", weights):
        known = ", ".join([tag] if tag else tags)
        raise UserError(
            f"encoder.weights = {weights!r}: {network} knows DEFAULT, {known}, none, or {WEIGHTS_FILE}"
        )
    return f"{network}.{weights}"


def timm_package() -> ModuleType:
    """The module timm; `UserError` where it is not installed."""
    try:
        import timm  # imported late: it takes seconds
    except ImportError:
        raise UserError(f"encoder.name = timm/...: timm is not installed; {extra('timm')}") from None
    return timm
