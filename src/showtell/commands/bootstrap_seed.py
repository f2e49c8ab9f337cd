"""`--seed` of the commands that compute bootstrap intervals."""

import argparse

from showtell.core.errors import UserError


def add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=_seed, default=0, help="of the bootstrap (default 0)")


def _seed(text: str) -> int:
    """`UserError` for a seed that NumPy's generator does not take."""
    try:
        seed = int(text)
    except ValueError:
        raise UserError(f"--seed {text}: must be a whole number") from None
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    return seed
