"""One door to each outside thing: process, git, terraform, docker, registry, aws, http."""
