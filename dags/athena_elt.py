"""
### Movies of one genre, from raw files to an export

Athena reads the raw CSV files directly in the data lake, so nothing is loaded and no data is copied
before the export.

1. `check_database` looks for the database, and continues with `create_database` or without it.
2. `create_movies` and `create_ratings` create tables over `raw/movies/` and `raw/ratings/`.
3. `select_genre` defines the view of one genre, with the mean rating of each movie.
4. `clear_export` removes what an interrupted run has left in `staging/`.
5. `export_csv` lets Athena write the view to `staging/` as CSV.
6. `move_export` moves the file to `exports/GENRE.csv` in one operation: readers see either the old
   export or the new one.

**What it shows.** A branch, SQL in files next to the DAG, and Airflow Variables with defaults,
which are read when a task runs and never when this file is parsed.

**How it is configured.** A deployment replaces each marked value with the Terraform output that its
marker names. The Airflow Variables `athena_elt_database` and `athena_elt_genre` are optional.

**What it needs.** MovieLens' `movies.csv` and `ratings.csv` in those two folders, and permissions
for Athena, Glue and the lake, which Terraform gives to its own MWAA.
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
EXPORT = (
    "{{ var.value.get('athena_elt_genre', default_genre)"
    " | lower | replace(' ', '-') | replace('/', '-') }}"
)


def query(task_id: str, sql: str, **arguments: object) -> AthenaOperator:
    """Run SQL, or the SQL in a file. The workgroup decides where the result goes, unless
    `output_location` is given.
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
    """The ids of the tasks to continue with."""
    from airflow.providers.amazon.aws.hooks.athena import AthenaHook

    athena = AthenaHook(region_name=AWS_REGION).get_conn()
    try:
        athena.get_database(CatalogName="AwsDataCatalog", DatabaseName=database)
    except athena.exceptions.MetadataException as error:
        # Athena raises the same exception when access is denied.
        if "EntityNotFoundException" not in str(error):
            raise
        return "create_database"
    return ["create_movies", "create_ratings"]


@task
def clear_export(export: str) -> int:
    """Delete leftovers from `staging/`. Returns how many there were."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    s3 = S3Hook(region_name=AWS_REGION)
    left = s3.list_keys(LAKE, prefix=f"staging/{export}/") or []
    if left:
        s3.delete_objects(LAKE, left)
    return len(left)


@task
def move_export(export: str, query_id: str) -> str:
    """Move the export to its final key, and return its address.

    Athena names a result after its query, and writes a description of it next to it.
    """
    from airflow.providers.amazon.aws.hooks.s3 import NO_ACL, S3Hook

    s3 = S3Hook(region_name=AWS_REGION)
    staged = f"staging/{export}/{query_id}.csv"
    target = f"exports/{export}.csv"
    # By default the hook sets the ACL "private", which a bucket with ACLs turned off refuses.
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
    # When the branch skips `create_database`, these tasks must run all the same.
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
