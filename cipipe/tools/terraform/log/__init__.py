"""What Terraform logs while it works, and while it waits."""
