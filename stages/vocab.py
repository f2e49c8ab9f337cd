"""vocab: captions as words and tokens per split, and the vocabulary of the train captions."""

from showtell.core import paths
from showtell.core.params import load
from showtell.core.stage import run_stage
from showtell.data.captions import write_captions
from showtell.data.datasets import karpathy
from showtell.data.vocabulary import VocabParams, build_captions


def main() -> str:
    vocabulary, splits = build_captions(karpathy.read(paths.CAPTIONS_RAW), load(VocabParams))
    made = []
    for split, entries in splits.items():
        write_captions(paths.split_json(split), entries)
        captions = sum(len(entry["references"]) for entry in entries)
        made.append(f"  {split}: {len(entries):,} images, {captions:,} captions")
    vocabulary.save(paths.VOCAB)
    return "\n".join([f"a vocabulary of {len(vocabulary):,} words is in {paths.VOCAB}", *made])


if __name__ == "__main__":
    run_stage(main)
