"""What a Terraform plan changes: read, shown, and compared with what was reviewed."""
