"""The use cases of `cipipe iac`: one `terraform` stage on its own."""
