"""``python -m boundseg``: the command line."""

from boundseg.cli import main

main()
