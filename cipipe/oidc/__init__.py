"""Identity: from a job's ID token to AWS credentials, and what a trust policy says of it."""
