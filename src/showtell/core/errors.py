"""The one kind of error a user can mend, and how a command ends with it."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, what to do."""


def run(main: Callable[[], int | None]) -> None:
    """Run a command or a stage; a `UserError` becomes one line on stderr and exit status 1."""
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output went away (`showtell ... | head`)
        sys.stderr.close()
        status = 141
    sys.exit(status)
