"""`showtell tokenize`: caption lines on standard input, token lines on standard output."""

import argparse
import sys

from showtell.commands.inputs import standard_input
from showtell.metrics.tokenisation import tokenisation_for

HELP = "turn caption lines on standard input into the tokens that scores count: PTB, or characters where they fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = HELP + "; one line out for each line in, punctuation dropped."


def run(args: argparse.Namespace) -> int:
    # Only \n ends a line: captions may contain other characters at which Python would split.
    text = standard_input().read().decode("utf-8", errors="replace")
    if text.endswith("\n"):
        text = text[:-1]
    elif not text:
        return 0
    lines = text.split("\n")
    for line in tokenisation_for(lines).tokenised(lines):
        sys.stdout.write(line + "\n")
    return 0
