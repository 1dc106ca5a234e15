"""From a job to AWS: tokens, roles, credentials, and who the roles trust."""
