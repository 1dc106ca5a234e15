"""AWS, an OIDC issuer, an image registry and, if need be, Docker on this
machine: everything that a pipeline talks to.

One supervisor process (`python -m cipipe.sandbox`) runs them on free ports
of loopback, and stops them when it stops. One sandbox has any number of
accounts. A Docker daemon that does not share this machine's loopback cannot
reach the registry.
"""

from cipipe.sandbox.client import Sandbox, attached, down, find, up
from cipipe.sandbox.needs import missing
from cipipe.sandbox.state import SandboxOptions, SandboxState

__all__ = [
    "Sandbox",
    "SandboxOptions",
    "SandboxState",
    "attached",
    "down",
    "find",
    "missing",
    "up",
]
