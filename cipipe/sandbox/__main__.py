"""`python -m cipipe.sandbox OPTIONS-AS-JSON`: the supervisor's process,
started by `client.up`.

Its environment is read here, once, and passed to the services.
"""

import os
import sys

from cipipe.errors import CipipeError
from cipipe.sandbox.state import decode
from cipipe.sandbox.supervisor import serve


def main() -> int:
    try:
        serve(decode(sys.argv[1]), dict(os.environ))
    except CipipeError as error:
        # Into the supervisor's log, which the client shows if the sandbox
        # does not start.
        print(error.message, file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
