"""The client of Terraform: `client.Terraform` has its verbs, `commands` runs them."""
