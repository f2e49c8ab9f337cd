"""`showtell`: one subcommand for each task. A subcommand's module is imported when it runs."""

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from showtell.core import errors

# Name, module (with `add_arguments(parser)` and `run(args) -> exit status`), and description.
COMMANDS = {
    "caption": ("showtell.commands.caption_images", "describe photographs"),
    "convert": ("showtell.commands.convert", "write a bundle from a checkpoint of a well-known tutorial"),
    "describe": ("showtell.commands.describe", "write alt text for folders of pictures"),
    "demo": ("showtell.commands.demo", "describe photographs on a page in the browser"),
    "export": ("showtell.commands.export", "write a model as graphs that run without PyTorch"),
    "import": ("showtell.commands.import_", "inspect your own pictures and captions, and set params.yaml to them"),
    "encoders": ("showtell.commands.list_encoders", "list the networks that can be the encoder, and what they need"),
    "plan": ("showtell.commands.plan", "estimate what the present params.yaml will cost on this machine"),
    "recipe": ("showtell.commands.recipe", "print, or write into params.yaml, the settings of a published system"),
    "score": ("showtell.commands.score", "score captions by the COCO protocol"),
    "tokenize": ("showtell.commands.tokenize", "turn captions into the tokens that scores are computed on"),
    "compare": ("showtell.commands.compare", "test whether one of two sets of captions scores better"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `showtell ARGUMENTS` and exit with its status: 0 done, 1 an error (on stderr), 2 wrong usage."""
    errors.run(lambda: dispatch(sys.argv[1:] if arguments is None else list(arguments)))


def dispatch(arguments: Sequence[str]) -> int:
    """Run one subcommand; returns its exit status."""
    overview = _overview()
    own = overview.parse_args(arguments[:1])
    if own.version:
        from importlib.metadata import version

        print(f"showtell {version('showtell')}")
        return 0
    if own.command is None:
        overview.print_help(sys.stderr)
        return 2
    if own.command not in COMMANDS:
        near = difflib.get_close_matches(own.command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        overview.error(f"there is no command {own.command!r}; {hint}")
    try:
        module = importlib.import_module(COMMANDS[own.command][0])
        parser = argparse.ArgumentParser(prog=f"showtell {own.command}", description=COMMANDS[own.command][1])
        module.add_arguments(parser)
        return module.run(parser.parse_args(arguments[1:]))
    except ModuleNotFoundError as error:  # an installation without all dependencies, such as one without PyTorch
        package = (error.name or "showtell").partition(".")[0]
        if package == "showtell":
            raise
        needs = f"`showtell {own.command}` needs {package}, which is not installed here"
        raise errors.UserError(f"{needs}: `make install` in a clone installs all that it needs") from None


def _overview() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="showtell",
        usage="showtell COMMAND ...",
        description="Photographs in, captions out.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`showtell COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


if __name__ == "__main__":
    main()
