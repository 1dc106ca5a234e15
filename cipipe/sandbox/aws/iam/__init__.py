"""IAM in the sandbox: which permissions a request needs, and whether its caller has them."""
