"""What a Terraform root is made from: its files, and all that they refer to."""
