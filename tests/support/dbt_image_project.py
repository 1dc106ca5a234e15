"""A project whose image is this repository's dbt project with a few more models, in a sandbox: a
merge request builds what it changes in a Redshift.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from support.clone import Outcome
from support.dbt_container import DbtImage
from support.image_project import AUTH, HEAD, ImageProject
from support.tools import ROOT

PASSWORD = "h0rse-7f3e91-warehouse"

# Models besides this repository's own.
MORE = {
    "models/marts/by_city.sql": (
        "select city, count(*) as n from {{ ref('emp_fact') }} group by city\n"
    ),
    "models/marts/apart.sql": "select count(*) as n from {{ ref('department') }}\n",
}

_STAGE = """
[stages.image]
kind = "image"
paths = ["app/**"]
context = "app"
repository = "{registry}/shop-{{environment}}"
build_args = {{ BASE_IMAGE = "{base}", DBT_ADAPTERS = "dbt-duckdb dbt-redshift" }}
smoke = ["dbt", "parse"]
sbom = true

[stages.image.dbt]
target = "duckdb"
environment = {{ DBT_ENVIRONMENT = "dev" }}

[stages.image.dbt.build]
target = "redshift"
network = "host"
environment = {{ {warehouse}, DBT_SCHEMA_USER = {{ env = "CI_MERGE_REQUEST_IID", default = "" }} }}
secrets = {{ DBT_ENV_SECRET_PASSWORD = "WAREHOUSE_PASSWORD", REDSHIFT_USER = "WAREHOUSE_USER" }}

[stages.image.dbt.build.defer]
environment = {{ {warehouse} }}
target = "redshift"
"""

# Of the warehouse, what is no secret.
_PLAIN = (
    "REDSHIFT_DATABASE",
    "REDSHIFT_HOST",
    "REDSHIFT_PORT",
    "REDSHIFT_SCHEMA",
    "REDSHIFT_SSLMODE",
)


class DbtImageProject(ImageProject):
    """The project."""

    # The base image of the dbt image, which its daemon has.
    base: str = ""
    # Variables of dbt's profile for the warehouse.
    warehouse: Mapping[str, str] = {}

    def fill(self, base: str, warehouse: Mapping[str, str]) -> None:
        """The first commit on main."""
        self.base = base
        self.warehouse = warehouse
        shutil.rmtree(self.folder / "app")
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--", "dbt"], cwd=ROOT, check=True, capture_output=True
        )
        for name in listed.stdout.decode().split("\0")[:-1]:
            target = self.folder / "app" / name.removeprefix("dbt/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        for name, text in MORE.items():
            (self.folder / "app" / name).write_text(text)
        self.configure()

    def configure(self, settings: str = "") -> None:
        if self.base:
            plain = (f'{name} = "{self.warehouse[name]}"' for name in _PLAIN)
            stage = _STAGE.format(
                registry=self.registry, base=self.base, warehouse=", ".join(plain)
            )
            (self.folder / "cipipe.toml").write_text(HEAD + stage + settings)
            self.git("add", "-A")
            self.git("commit", "--quiet", "-m", "Configure")
        else:
            super().configure(settings)

    def deployed_image(self) -> DbtImage:
        """With the variables of a deployed task."""
        data = self.record()["data"]
        engine = self.daemon()
        reference = f"{data['repository']}@{data['digest']}"
        name = engine.images.pull(reference, auth_config=AUTH).id
        return DbtImage(
            engine=engine, image=name, environment={**self.warehouse, "DBT_ENVIRONMENT": "dev"}
        )

    def merge_request(self, files: Mapping[str, str], iid: int, **env: str) -> Outcome:
        """The run of a merge request's job with these files changed. main stays as it is."""
        with self.changed(files, iid) as job:
            return self.run_in("dev", **{**job, **env})

    @contextlib.contextmanager
    def changed(self, files: Mapping[str, str], iid: int) -> Iterator[dict[str, str]]:
        """The variables of the job of a merge request that changes these files, with its branch
        checked out.
        """
        self.git("checkout", "--quiet", "-B", "feature", "main")
        for name, text in files.items():
            self.write(f"app/{name}", text)
        token = self.sandbox().mint(
            project="group/shop",
            ref="feature",
            ref_type="branch",
            audience="https://gitlab.com",
            event="merge-request",
        )
        job = {
            "CI": "true",
            "GITLAB_CI": "true",
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_COMMIT_REF_NAME": "feature",
            "CI_DEFAULT_BRANCH": "main",
            "CI_MERGE_REQUEST_IID": str(iid),
            "CI_MERGE_REQUEST_PROJECT_PATH": "group/shop",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_PATH": "group/shop",
            "CI_PIPELINE_IID": "9",
            "CI_PROJECT_PATH": "group/shop",
            "AWS_ID_TOKEN": token,
            "WAREHOUSE_PASSWORD": PASSWORD,
            "WAREHOUSE_USER": self.warehouse["REDSHIFT_USER"],
        }
        try:
            yield job
        finally:
            self.git("checkout", "--quiet", "main")
