"""`showtell convert`: writes a bundle from the checkpoint of a well-known PyTorch tutorial."""

import argparse
from pathlib import Path

from showtell.core.errors import UserError
from showtell.core.files import atomic_folder, check_new


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write a bundle from the checkpoints of one of two published PyTorch tutorials. Show, attend and tell (Xu et "
        "al. 2015; the tutorial of the recipe show-attend-tell): BEST_checkpoint_*.pth.tar, which holds its classes "
        "Encoder and DecoderWithAttention, and WORDMAP_*.json. Show and tell (Vinyals et al. 2015; the tutorial of the "
        "recipe resnet152-lstm): the state dicts of its EncoderCNN and DecoderRNN, encoder-*.pkl and decoder-*.pkl or "
        ".ckpt, and vocab.pkl with its class Vocabulary. The encoder may be any ResNet. Other checkpoints "
        "are not read. Nothing in the files is run."
    )
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="CHECKPOINT WORDMAP OUT, or ENCODER DECODER VOCABULARY OUT"
    )


def run(args: argparse.Namespace) -> int:
    if len(args.files) not in (3, 4):
        raise UserError("convert takes CHECKPOINT WORDMAP OUT, or ENCODER DECODER VOCABULARY OUT")
    *sources, out = args.files
    check_new(out)
    from showtell.commands.conversion.tutorials import convert_attend, convert_inject
    from showtell.generation.bundle import save_model, serve_model  # imports torch

    model, search = convert_attend(*sources) if len(sources) == 2 else convert_inject(*sources)
    with atomic_folder(out) as unfinished:
        save_model(model, unfinished, {"converted_from": sources[0].name})
        serve_model(unfinished, unfinished, search, scores={})
    print(f"{out}: {model.encoder.name}, {model.params.kind} decoder, {len(model.vocabulary):,} words")
    print(f"next: showtell caption --model {out} PHOTO")
    return 0
