"""One client of Terraform: its command, and what its backends, locks, plans and errors look like."""
