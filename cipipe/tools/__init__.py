"""One client for each outside system: processes, git, Terraform, Docker, registries, AWS, HTTP."""
