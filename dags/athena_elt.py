"""
### Movies of one genre, from raw files to an export

Loads nothing and moves no data until the end: Athena reads the raw CSV files where they lie in the
data lake.

1. `check_database` looks for the database, and branches: `create_database`, or straight on.
2. `create_movies` and `create_ratings` lay tables over `raw/movies/` and `raw/ratings/`.
3. `select_genre` defines the view of one genre, with the mean rating of each movie.
4. `clear_export` removes from `staging/` what a run that was cut off has left there.
5. `export_csv` has Athena write the view there as CSV.
6. `move_export` puts the file in its place, `exports/GENRE.csv`, in one go: readers see the old export or the new one.

**What it shows.** A branch, SQL in files beside the DAG, and Airflow Variables with defaults, which
are read when a task runs and never when this file is parsed.

**How it is configured.** Deploying replaces each marked value by the Terraform output that its
marker names. Airflow Variables, none of which has to exist: `athena_elt_database` and
`athena_elt_genre`.

**What it needs.** MovieLens' `movies.csv` and `ratings.csv` in those two folders, and the rights on
Athena, Glue and the lake that Terraform gives to its own MWAA.
"""

from datetime import timedelta

import pendulum
from airflow import DAG
from airflow.decorators import task
from airflow.providers.amazon.aws.operators.athena import AthenaOperator

AWS_REGION = "eu-central-1"  # cipipe: aws_region
LAKE = "data-lake-local"  # cipipe: data_lake_bucket
WORKGROUP = "primary"  # cipipe: athena_workgroup_name
DEFAULT_DATABASE = "movies_local"  # cipipe: athena_database_name

DATABASE = "{{ var.value.get('athena_elt_database', default_database) }}"
EXPORT = "{{ var.value.get('athena_elt_genre', default_genre) | lower | replace(' ', '-') | replace('/', '-') }}"


def query(task_id: str, sql: str, **arguments: object) -> AthenaOperator:
    """Run SQL, or the SQL in a file. Its result goes where the workgroup says, unless
    `output_location` says otherwise.
    """
    defaults = {
        "database": DATABASE,
        "workgroup": WORKGROUP,
        "region_name": AWS_REGION,
        "sleep_time": 5,
    }
    return AthenaOperator(task_id=task_id, query=sql, **{**defaults, **arguments})


@task.branch
def check_database(database: str) -> str | list[str]:
    """The tasks to go on with."""
    from airflow.providers.amazon.aws.hooks.athena import AthenaHook

    athena = AthenaHook(region_name=AWS_REGION).get_conn()
    try:
        athena.get_database(CatalogName="AwsDataCatalog", DatabaseName=database)
    except athena.exceptions.MetadataException as error:
        if "EntityNotFoundException" not in str(
            error
        ):  # the same exception says that access is denied
            raise
        return "create_database"
    return ["create_movies", "create_ratings"]


@task
def clear_export(export: str) -> int:
    """How many objects were left over."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    s3 = S3Hook(region_name=AWS_REGION)
    left = s3.list_keys(LAKE, prefix=f"staging/{export}/") or []
    if left:
        s3.delete_objects(LAKE, left)
    return len(left)


@task
def move_export(export: str, query_id: str) -> str:
    """Where the export is now. Athena names a result after its query, and puts a description beside
    it.
    """
    from airflow.providers.amazon.aws.hooks.s3 import NO_ACL, S3Hook

    s3 = S3Hook(region_name=AWS_REGION)
    staged, target = f"staging/{export}/{query_id}.csv", f"exports/{export}.csv"
    # The hook would ask for the ACL "private", and a bucket that has no ACLs refuses that.
    s3.copy_object(
        staged, target, source_bucket_name=LAKE, dest_bucket_name=LAKE, acl_policy=NO_ACL
    )
    s3.delete_objects(LAKE, [staged, f"{staged}.metadata"])
    return f"s3://{LAKE}/{target}"


with DAG(
    dag_id="athena_elt",
    description="Export the movies of one genre, with their mean rating, from the data lake",
    doc_md=__doc__,
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "owner": "data-engineering",
        "retries": 2,
        "retry_delay": timedelta(minutes=5),
        "execution_timeout": timedelta(minutes=30),
    },
    user_defined_macros={
        "lake": LAKE,
        "default_database": DEFAULT_DATABASE,
        "default_genre": "Comedy",
    },
    tags=["athena", "elt"],
):
    check = check_database(DATABASE)
    create = query(
        "create_database", f"CREATE DATABASE IF NOT EXISTS `{DATABASE}`", database="default"
    )
    # A branch that is not taken is skipped, and what follows it is not.
    movies = query(
        "create_movies", "sql/athena_elt_movies.sql", trigger_rule="none_failed_min_one_success"
    )
    ratings = query(
        "create_ratings", "sql/athena_elt_ratings.sql", trigger_rule="none_failed_min_one_success"
    )
    select = query("select_genre", "sql/athena_elt_genre.sql")
    clear = clear_export(EXPORT)
    export = query(
        "export_csv", "sql/athena_elt_export.sql", output_location=f"s3://{LAKE}/staging/{EXPORT}/"
    )

    check >> create >> [movies, ratings]
    check >> [movies, ratings] >> select >> clear >> export >> move_export(EXPORT, export.output)
