"""The client of Docker: `client.Docker` builds, runs and pushes; `buildkit`
builds by the command.

`address`, `certificates` and `ping` find out where the daemon is, and what
is wrong when it does not answer. `context` and `dockerignore` decide what
is sent to it.
"""
