"""The settings of the `dags` kind."""

from cipipe.stages.settings import KindSettings, Setting


class Settings(KindSettings, frozen=True):
    """`source` is a folder of the repository; its files go to `prefix` in `bucket`, under their
    names below `source`.
    """

    source: str
    bucket: Setting
    prefix: str = "dags/"
    allow_empty: bool = False
    airflow_version: str | None = None
    airflow_python: str | None = None
    import_timeout: int = 30
    dynamic: tuple[str, ...] = ()
    requirements: str | None = None
    plugins: str | None = None
    mwaa_environment: Setting | None = None
    confirm_timeout: int = 300
    include: tuple[str, ...] = ()
    check_env: dict[str, str] = {}
    check_variables: dict[str, str] = {}
