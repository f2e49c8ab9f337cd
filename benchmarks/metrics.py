"""BLEU, ROUGE-L and CIDEr-D of 5,000 images with 5 references against pycocoevalcap, on the same tokens.

    python benchmarks/metrics.py [--quick] [--rounds 3] [--json]

Captions are random, with word frequencies and lengths like COCO's. Both sides get tokens, since the reference tool's
tokeniser is a Java program. Ours is timed from references to scores, with n-grams counted again; the time of our
tokeniser for all raw captions is in the detail. Scores must agree to 1e-9. Needs the package pycocoevalcap.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from itertools import product
from statistics import median

import numpy as np
from measure import Result, alternate, arguments, report, require, seconds, threads, timed

from showtell.metrics.bleu import Bleu
from showtell.metrics.cider import CiderD
from showtell.metrics.ngrams import References
from showtell.metrics.ptb import tokenised
from showtell.metrics.rouge import rouge_l

TARGET = 3.0
CLOSE = 1e-9
REFERENCES = 5
WORDS = 9490
Captions = dict[int, list[str]]  # of each image


def words() -> np.ndarray:
    """Distinct pronounceable words."""
    syllables = ["".join(letters) for letters in product("bdgklmnprst", "aeiou", ("", "n"))]
    return np.array(["".join(pair) for pair in product(syllables, syllables)])[:WORDS]


def drawn(images: int) -> tuple[Captions, Captions]:
    """References and hypotheses. Captions of one image share words, like descriptions of one picture.

    Frequencies fall with rank (Zipf), lengths are 9 to 16 words.
    """
    rng, vocabulary = np.random.default_rng(1), words()
    often = 1 / np.arange(3, len(vocabulary) + 3)
    often /= often.sum()
    references, hypotheses = {}, {}
    for image in range(images):
        shown = rng.choice(vocabulary, 24, p=often)  # words about the picture
        said = [" ".join(rng.choice(shown, rng.integers(9, 17))) for _ in range(REFERENCES + 1)]
        # Common beginnings, so that longer n-grams match too.
        said = [f"{' '.join(vocabulary[rng.integers(4) : 5])} {one}" if rng.random() < 0.7 else one for one in said]
        references[image], hypotheses[image] = said[:-1], said[-1:]
    return references, hypotheses


def theirs(references: Captions, hypotheses: Captions) -> list[np.ndarray]:
    """Corpus scores and image scores: BLEU-1..4, ROUGE-L, CIDEr-D, by the reference scorer."""
    from pycocoevalcap.bleu.bleu import Bleu as TheirBleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        scored = [s.compute_score(references, hypotheses) for s in (TheirBleu(4), Rouge(), Cider())]
    return [np.asarray(part, float) for pair in scored for part in pair]


def ours(references: Captions, hypotheses: Captions) -> list[np.ndarray]:
    """The same, by the package."""
    prepared, captions = References(references), {image: one for image, (one,) in hypotheses.items()}
    scored = [Bleu(prepared).score(captions), rouge_l(prepared, captions), CiderD(prepared).score(captions)]
    return [np.asarray(part, float) for pair in scored for part in pair]


def results(args: argparse.Namespace) -> Iterator[Result]:
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        sys.exit("the reference scorer is not installed; pip install 'pycocoevalcap>=1.2,<2' and run this again")
    images = 50 if args.quick else 5000
    captions = drawn(images)
    off = max(float(np.abs(a - b).max()) for a, b in zip(theirs(*captions), ours(*captions), strict=True))
    require(off < CLOSE, f"scores by {off:.1e}")
    timing = alternate(lambda: theirs(*captions), lambda: ours(*captions), args.rounds)
    raw = [f"{one.capitalize()}." for side in captions for of_image in side.values() for one in of_image]
    tokenising = median(timed(lambda: list(tokenised(raw))) for _ in range(args.rounds))
    bleu, _, rouge, _, cider, _ = ours(*captions)
    detail = (
        f"{seconds(timing.plain)} and {seconds(timing.ours)}; tokenising all {len(raw):,} raw captions "
        f"{seconds(tokenising)} more; BLEU-4 {bleu[3]:.3f}, ROUGE-L {rouge:.3f}, CIDEr-D {cider:.3f} within {off:.0e}"
    )
    what = f"{images:,} images, {REFERENCES} references"
    yield Result("BLEU + ROUGE-L + CIDEr-D", timing.ratio, TARGET, what, threads(), detail)


if __name__ == "__main__":
    args = arguments(__doc__, rounds=3).parse_args()
    report(results(args), args)
