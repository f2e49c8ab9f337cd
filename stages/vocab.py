"""vocab: words and tokens of all captions, and the vocabulary of the train captions."""

from showtell.core import paths
from showtell.core.files import atomic_folder
from showtell.core.params import load
from showtell.core.stage import run_stage
from showtell.data.datasets import karpathy
from showtell.data.vocabulary import VocabParams, build_captions


def main() -> str:
    with atomic_folder(paths.CAPTIONS) as folder:
        vocabulary, made = build_captions(karpathy.stream(paths.CAPTIONS_RAW), load(VocabParams), folder)
    vocabulary.save(paths.VOCAB)
    splits = [f"  {split}: {there}" for split, there in made.items()]
    return "\n".join([f"a vocabulary of {len(vocabulary):,} words is in {paths.VOCAB}", *splits])


if __name__ == "__main__":
    run_stage(main)
