"""Reads the process's environment and exits with dbt's own status."""

import os
import sys

from dbt_runtime.run import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], dict(os.environ)))
