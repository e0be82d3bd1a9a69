"""The verbs: each parses, calls one function, prints. The only room that prints errors and ends processes."""

from boundseg.cli.entry import app, main

__all__ = ["app", "main"]
