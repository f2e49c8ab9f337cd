"""Content of a report, drawn in code: images, captions, attention, scores."""

import numpy as np

from showtell.evaluation.report import Nearest, ReportData, ReportImage
from showtell.generation.captioner import Caption

KINDS = ["dog", "boat", "red kite", "cat"]


def caption_of(text, logprob=-3.0, side=4, attends=True):
    words = text.split()
    attention = np.zeros((len(words), side * side), np.float32)
    for place in range(len(words)):
        attention[place, place % (side * side)] = 1  # each word attends to another cell
    return Caption(text, words, logprob, logprob, True, attention if attends else None)


def image_of(number, cider):
    kind = KINDS[number % 4]
    return ReportImage(
        image_id=f"id{number}",
        captions=[caption_of(f"a {kind} number {number}"), caption_of(f"the {kind}", -4.5)],
        references=[f"A {kind} somewhere.", f"a sleepy {kind} of rank {number}"],
        cider=cider,
        nearest=Nearest(f"a {kind} in training", 0.5),
        marks=["unseen"] if number % 3 == 0 else [],
    )


def pixels_of(number):
    return np.full((3, 48, 48), 40 + number % 200, np.uint8)


def report_of(count, **changes):
    """Image i has CIDEr-D (7 i mod count) / count, all different when 7 does not divide `count`."""
    images = [image_of(i, (7 * i % count) / count) for i in range(count)]
    content = {
        "title": "drawn",
        "facts": [f"{count} test images", "beam 2"],
        "metrics": {"cider": 0.8, "bleu4": 0.25, "meteor": None, "chair_i": 0.04, "wings": 0.5},
        "intervals": {"cider_low": 0.71, "cider_high": 0.88},
        "others": {"Unseen pairs": {"cider": 0.6, "bleu4": None}},
        "behaviour": {"captions": count, "copied": 0.125, "mean_length": 4.25},
        "curves": {"train": [{"epoch": e, "loss": 3 / e, "cider": e / 10} for e in (1, 2, 3)], "finetune": []},
        "sweep": [
            {
                "method": f"beam {b}",
                "beam": b,
                "length_penalty": 0.0,
                "cider": 0.7 + b / 100,
                "bleu4": 0.2,
                "milliseconds": 5.0 * b,
                "best": b == 3,
            }
            for b in (1, 3)
        ],
        "params": {"beam": 2, "search": {"max_length": 20}},
        "images": images,
        "pixels": pixels_of,
        "notes": {"meteor": "not computed: needs Java"},
    }
    return ReportData(**{**content, **changes})


def page_of(folder):
    return (folder / "index.html").read_text(encoding="utf-8")
