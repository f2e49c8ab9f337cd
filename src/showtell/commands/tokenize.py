"""`showtell tokenize`: caption lines on standard input, PTB token lines on standard output."""

import argparse
import sys

from showtell.metrics.ptb import tokenize_all

HELP = "turn caption lines on standard input into the tokens that the COCO scorer counts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = HELP + "; one line out for each line in, punctuation dropped."


def run(args: argparse.Namespace) -> int:
    # Only \n ends a line: captions may hold characters that Python would split at
    text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    if text.endswith("\n"):
        text = text[:-1]
    elif not text:
        return 0
    for line in tokenize_all(text.split("\n")):
        sys.stdout.write(line + "\n")
    return 0
