"""The sandbox's image registry, and a Docker daemon where the machine has none."""
