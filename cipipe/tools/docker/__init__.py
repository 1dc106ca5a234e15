"""One client of Docker: the daemon, the two builders, the build context."""
