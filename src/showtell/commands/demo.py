"""`showtell demo`: a page in the browser that captions the image dropped on it. Served on this machine only."""

import argparse
import base64
import io
import os
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from showtell.core.errors import UserError, extra
from showtell.core.paths import MODEL

if TYPE_CHECKING:
    import gradio
    from PIL import Image

    from showtell.generation.captioner import Caption, Captioner
    from showtell.generation.search_params import SearchParams

LARGEST_FILE = 20 << 20  # bytes of an upload
LARGEST_PICTURE = 50_000_000  # pixels: more than phone cameras take; read from the file's header, before it is decoded
TILE = 176  # pixels, longer side of a word's image
PACE = 0.32  # seconds from one word to the next

STYLE = f"""
.said {{ font-size: 1.55rem; line-height: 1.3; margin: 0 0 16px; }}
.words {{ display: flex; flex-wrap: wrap; gap: 12px 10px; margin: 0; padding: 0; }}
.words figure {{ margin: 0; width: 112px; text-align: center; }}
.words img {{ display: block; width: 100%; border-radius: 8px; transition: transform .15s; }}
.words img {{ max-height: 240px; object-fit: contain; }}
.words img {{ transform-origin: 50% 100%; }}
.words figure:hover, .words figure:focus {{ position: relative; z-index: 2; }}
.words figure:hover img, .words figure:focus img {{ transform: scale(1.55); }}
.words figcaption {{ padding-top: 4px; }}
.said span, .words figure {{ opacity: 0; animation: appear .5s forwards; animation-delay: calc(var(--n) * {PACE}s); }}
.sure {{ margin: 18px 0 0; }}
.beams, .beams tr, .beams td, .beams th {{ border: 0 !important; background: none !important; text-align: left; }}
.beams {{ margin-top: 22px; font-variant-numeric: tabular-nums; }}
.beams td, .beams th {{ padding: 4px 22px 4px 0 !important; }}
@keyframes appear {{ to {{ opacity: 1; }} }}
@media (prefers-reduced-motion: reduce) {{ .said span, .words figure {{ animation: none; opacity: 1; }} }}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Serve a page on this machine, 127.0.0.1, that describes the photographs dropped on it."
    parser.add_argument(
        "--model", type=Path, action="append", metavar="DIR",
        help=f"default {MODEL}; several with one vocabulary form an ensemble, with the first one's settings",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=7860, help="default %(default)s; 0: any free one")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted."""
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port {args.port}: must be 0 to 65535")
    _without_telemetry()
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError(f"the demo needs gradio; {extra('demo')}") from None
    from showtell.generation.captioner import Captioner

    page = build_page(Captioner.load(*(args.model or [MODEL])))
    launch(page, args.port, browser=not args.no_browser)
    page.block_thread()
    return 0


def _without_telemetry() -> None:
    """Disable telemetry; called before gradio is imported, which reads these variables then."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def launch(page: "gradio.Blocks", port: int, browser: bool) -> str:
    """Serve `page` on 127.0.0.1 and print its address; `UserError` when the port is taken."""
    import gradio

    if port == 0:
        port = _free_port()
    # gradio's own themes download fonts; these fonts are installed.
    theme = gradio.themes.Soft(primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        _, url, _ = page.launch(
            server_name="127.0.0.1", server_port=port, share=False, inbrowser=browser, prevent_thread_lock=True,
            quiet=True, max_file_size=LARGEST_FILE, footer_links=[], ssr_mode=False, enable_monitoring=False,
            theme=theme, css=STYLE,
        )  # fmt: skip
    except OSError:
        raise UserError(f"cannot serve on port {port}: it is taken; choose another with --port") from None
    print(f"serving on {url}  (Ctrl-C ends it)", flush=True)
    return url


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def build_page(captioner: "Captioner") -> "gradio.Blocks":
    """The page: image and settings on the left, captions on the right."""
    import gradio

    with gradio.Blocks(title="Showtell", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        gradio.Markdown(
            "# Showtell\nDrop a picture; see what the model says, and where it looked for every word. "
            "A model knows such pictures as it has learnt from."
        )
        with gradio.Row():
            with gradio.Column(scale=2, min_width=280):
                # image_mode=None: gradio passes the file unchanged
                photo = gradio.Image(
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    label="Photograph",
                    elem_id="photo",
                )
                # gradio's own opens the file here, and of one that is no picture the page would only say "Error"
                vars(photo)["preprocess"] = lambda given: None if given is None else given.path
                knobs = _knobs(captioner.search)
                least = gradio.Slider(
                    0, _highest(captioner), value=0, step=0.05, label="Least confidence (0: always a caption)",
                    visible=captioner.confidence is not None, elem_id="least",
                )  # fmt: skip
            with gradio.Column(scale=3, min_width=320):
                said = gradio.HTML(elem_id="said")
        for slider in (least, *knobs.values()):
            if isinstance(slider, gradio.Slider):  # gradio's own refuses what is typed, also when it is half typed
                slider.preprocess = partial(nearest, slider)  # type: ignore[method-assign]

        def shown(path: str | None, sure: float, *values: Any) -> str:
            n_best, settings = asked(captioner.search, dict(zip(knobs, values, strict=True)))
            return describe(captioner, path, n_best, settings, sure or None)

        changed = [knob.change for name, knob in knobs.items() if name != "beam"]
        for event in (photo.change, knobs["beam"].release, least.release, *changed):
            event(shown, [photo, least, *knobs.values()], said, api_visibility="private", show_progress="minimal")
    return page


def _knobs(own: "SearchParams") -> dict[str, Any]:
    """The settings of the search on the page, by name, where the page is being built."""
    import gradio

    from showtell.generation.search_params import NEEDED

    first = first_values(own)
    knobs: dict[str, Any] = {}

    def slider(name: str, least: float, most: float, step: float, label: str) -> None:
        value = first[name]  # the model's own may be beyond
        least, most = min(least, value), max(most, value)
        knobs[name] = gradio.Slider(least, most, value=value, step=step, label=label, elem_id=name)

    slider("beam", 1, 10, 1, "Beam width, or samples")
    knobs["method"] = gradio.Dropdown(list(NEEDED), value=first["method"], label="Method", elem_id="method")
    with gradio.Accordion("Settings of some methods", open=False):
        slider("groups", 0, max(10, first["beam"]), 1, "Groups (0: one per beam)")
        slider("diversity", 0, 3, 0.1, "Diversity of groups")
        slider("temperature", 0.1, 2, 0.1, "Temperature")
        slider("top_k", 0, 100, 1, "Top-k (0: all words)")
        slider("top_p", 0.05, 1, 0.05, "Top-p")
        knobs["seed"] = gradio.Number(value=first["seed"], precision=0, minimum=0, label="Seed")
    with gradio.Accordion("Length in tokens, the end counted", open=False):
        for name, label in (("min_length", "At least"), ("max_length", "At most")):
            slider(name, 1, max(50, own.max_length), 1, label)
    return knobs


def nearest(slider: "gradio.Slider", typed: float | None) -> float:
    """The value of a slider for a number in the field beside it, which may be empty or beyond its ends while someone
    types: the page corrects it only when they leave the field."""
    return slider.value if typed is None else min(max(typed, slider.minimum), slider.maximum)


def _highest(captioner: "Captioner") -> float:
    """The greatest confidence that a caption of this model can have, in steps of 0.05."""
    return 1.0 if captioner.confidence is None else max(int(20 * captioner.confidence.good.chances[-1]), 1) / 20


def first_values(own: "SearchParams") -> dict[str, Any]:
    """What the page shows at first: the model's own settings, and usual values where its method reads none."""
    from showtell.generation.search_params import USUAL

    usual = {**USUAL, "groups": 0, "top_k": 0, "top_p": 1.0}
    found = {name: getattr(own, name) for name in (*usual, "method", "min_length", "max_length")}
    return {name: usual[name] if value is None else value for name, value in found.items()}


def asked(own: "SearchParams", values: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """The number of captions shown, and the settings of the search that the method reads; the model's `own` otherwise.

    `values` are those of the page, under the names of the settings.
    """
    from showtell.generation.search_params import keys_of

    method, width, top_p = values["method"], int(values["beam"]), values["top_p"]
    given = {
        "beam": width, "groups": int(values["groups"]) or width, "diversity": values["diversity"],
        "temperature": values["temperature"],
        "top_k": int(values["top_k"]) or None, "top_p": top_p if top_p < 1 or own.top_p else None,
        "seed": int(values["seed"] or 0),
    }  # fmt: skip
    settings = {"method": method} | {name: int(values[name]) for name in ("min_length", "max_length")}
    settings |= {key: given[key] for key in keys_of(method) if key in given}
    return 1 if method == "greedy" else width, settings


def describe(
    captioner: "Captioner", path: str | None, n_best: int, settings: Mapping[str, Any],
    min_confidence: float | None = None,
) -> str:  # fmt: skip
    """The HTML of an image's captions: the best one word by word with its attention, and a table of `n_best` captions.

    `settings` of the search replace the model's own. If the confidence is below `min_confidence`, a message instead.
    """
    from showtell.data.transform import load_image
    from showtell.evaluation.attention_pictures import seen

    if path is None:
        return ""
    try:
        _check(Path(path))
        picture = load_image(path)
        beams = captioner.n_best([picture], n_best, min_confidence=min_confidence, **settings)[0]
    except UserError as error:
        return f'<p role="alert">{escape(str(error).replace(str(path), Path(path).name))}</p>'
    if beams[0].abstained is not None:
        return f'<p role="status">No caption: {escape(beams[0].abstained)}.</p>'
    picture = seen(picture, captioner.model.transform).copy()
    picture.thumbnail((TILE, TILE))
    return f"{_caption(picture, beams[0])}{_sure(beams[0])}{_beams(beams)}"


def _check(path: Path) -> None:
    from PIL import Image

    if not path.exists():  # uploads are deleted after an hour
        raise UserError("the photograph is no longer here: drop it again")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path.name} has more than {LARGEST_FILE >> 20} MB")
    try:
        with Image.open(path) as picture:
            pixels = picture.width * picture.height
    except Exception:  # reading the whole image gives the better message
        return
    if pixels > LARGEST_PICTURE:
        raise UserError(f"{path.name} has {pixels / 1e6:.0f} megapixels, more than {LARGEST_PICTURE / 1e6:.0f}")


def _caption(picture: "Image.Image", best: "Caption") -> str:
    from showtell.evaluation.attention_pictures import glow

    words = " ".join(f'<span style="--n:{n}">{escape(word)}</span>' for n, word in enumerate(best.words))
    said = f'<p class="said">{words or "(nothing)"}</p>'
    if best.attention is None:
        return said
    tiles = (
        f'<figure tabindex="0" style="--n:{n}"><img alt="" src="{_data_url(glow(picture, attention, best.shift))}">'
        f"<figcaption>{escape(word)}<br><small>{_percent(probability)}</small></figcaption></figure>"
        for n, (word, attention, probability) in enumerate(
            zip(best.words, best.attention, best.probabilities, strict=False)
        )
    )
    return f'{said}<div class="words">{"".join(tiles)}</div>'


def _sure(best: "Caption") -> str:
    """The caption's confidence, if the model has a calibration."""
    if best.confidence is None:
        return ""
    truth = f"; that all of it is true: {_percent(best.truth)}" if best.truth is not None else ""
    chance = f"Chance that it is as good as this model's median caption: {_percent(best.confidence)}"
    return f'<p class="sure">{chance}{truth}.</p>'


def _percent(chance: float) -> str:
    return f"{min(round(100 * chance), 99)}%"  # never shown as certain


def _beams(beams: "Sequence[Caption]") -> str:
    rows = (f"<tr><td>{escape(b.text)}</td><td>{_minus(b.logprob)}</td></tr>" for b in beams)
    return f'<table class="beams"><tr><th>Best captions</th><th>Log probability</th></tr>{"".join(rows)}</table>'


def _minus(number: float) -> str:
    return f"{number:.2f}".replace("-", "−")


def _data_url(picture: "Image.Image") -> str:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")
