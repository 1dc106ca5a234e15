"""What the DAG `athena_elt` does in AWS, by action and resource, and what its role must not do."""

Places = list[tuple[str, str]]


def needed(name: str, account: str, region: str) -> Places:
    """What the operators and hooks of the DAG call, and Athena on their behalf.

    `name` is that of the stack: PROJECT-ENVIRONMENT.
    """
    athena, glue, bucket = _arns(name, account, region)
    database = _database(name)
    return [
        ("athena:GetDatabase", f"{athena}:datacatalog/AwsDataCatalog"),
        ("athena:StartQueryExecution", f"{athena}:workgroup/{name}"),
        ("athena:GetQueryExecution", f"{athena}:workgroup/{name}"),
        ("athena:StopQueryExecution", f"{athena}:workgroup/{name}"),
        ("glue:GetDatabase", f"{glue}:database/{database}"),
        ("glue:CreateDatabase", f"{glue}:database/{database}"),
        ("glue:GetDatabase", f"{glue}:database/default"),
        ("glue:CreateTable", f"{glue}:table/{database}/movies"),
        ("glue:GetTable", f"{glue}:table/{database}/ratings"),
        ("glue:UpdateTable", f"{glue}:table/{database}/genre"),
        ("s3:GetBucketLocation", bucket),
        ("s3:ListBucket", bucket),
        ("s3:GetObject", f"{bucket}/raw/movies/movies.csv"),
        ("s3:PutObject", f"{bucket}/athena-results/1.txt"),
        ("s3:PutObject", f"{bucket}/staging/comedy/1.csv"),
        ("s3:DeleteObject", f"{bucket}/staging/comedy/1.csv"),
        ("s3:PutObject", f"{bucket}/exports/comedy.csv"),
    ]


def forbidden(name: str, account: str, region: str) -> Places:
    athena, glue, bucket = _arns(name, account, region)
    database = _database(name)
    return [
        ("athena:StartQueryExecution", f"{athena}:workgroup/primary"),
        ("athena:UpdateWorkGroup", f"{athena}:workgroup/{name}"),
        ("athena:GetDatabase", f"{athena}:datacatalog/other"),
        ("glue:CreateTable", f"{glue}:table/default/movies"),
        ("glue:GetTable", f"{glue}:table/sales/orders"),
        ("glue:DeleteTable", f"{glue}:table/{database}/movies"),
        ("glue:DeleteDatabase", f"{glue}:database/{database}"),
        ("glue:GetConnection", f"{glue}:connection/warehouse"),
        ("s3:PutObject", f"{bucket}/raw/movies/movies.csv"),
        ("s3:DeleteObject", f"{bucket}/raw/movies/movies.csv"),
        ("s3:GetObject", f"{bucket}/elsewhere/1.csv"),
        ("s3:DeleteBucket", bucket),
        ("s3:GetObject", "arn:aws:s3:::somebody-elses/1.csv"),
        ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{region}:{account}:secret:x"),
    ]


def _arns(name: str, account: str, region: str) -> tuple[str, str, str]:
    return (
        f"arn:aws:athena:{region}:{account}",
        f"arn:aws:glue:{region}:{account}",
        f"arn:aws:s3:::{name}-lake-{account}",
    )


def _database(name: str) -> str:
    return f"{name}-movies".replace("-", "_")
