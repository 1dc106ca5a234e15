"""One client of AWS: endpoints and credentials, signed requests to S3 and STS, boto3 for the rest."""
