"""The subcommands of `showtell`: each module has `add_arguments(parser)` and `run(args) -> exit status`."""
