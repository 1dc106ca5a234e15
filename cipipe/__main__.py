"""`python -m cipipe`."""

from cipipe.cli import entry

entry()
