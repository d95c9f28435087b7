"""One module per command: `configure(parser)` adds its flags, `execute(arguments) -> int` does it."""
