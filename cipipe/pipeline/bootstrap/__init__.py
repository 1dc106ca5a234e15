"""What an account needs before its first pipeline: bucket, OIDC providers, roles."""
