"""Imports that failed here and may well succeed on MWAA, by their
traceback.

Only the real environment has Variables, connections, credentials, and what
is in requirements.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

# How Airflow 2 and 3 end a traceback where a Variable or a connection is
# missing: here all are.
_STORED = re.compile(
    r"KeyError: 'Variable .* does not exist\.?'"
    r"|[\w.]*AirflowNotFoundException: The conn_id .* isn't defined"
    r"|[\w.]*AirflowRuntimeError: (VARIABLE|CONNECTION)_NOT_FOUND\b.*"
)

_VARIABLE = re.compile(r"KeyError: '([A-Za-z_][A-Za-z0-9_]*)'")
_ENVIRON = re.compile(r'File "(<frozen os>|[^"]*/os\.py)", line \d+, in __getitem__')
_OPTION = re.compile(r"[\w.]*AirflowConfigException: section/key \[(.*)/(.*)\] not found in config")
_AWS_ERRORS = (
    r"NoCredentials|PartialCredentials|CredentialRetrieval|NoRegion|Client|EndpointConnection"
    r"|ConnectTimeout|ReadTimeout|ConnectionClosed|HTTPClient|ProxyConnection|SSL|TokenRetrieval"
    r"|ConfigNotFound"
)
_AWS = re.compile(
    rf"botocore\.(exceptions\.({_AWS_ERRORS})(Error)?"
    r"|exceptions\.ProfileNotFound|errorfactory\.\w+): .*"
)
_FOLDER = re.compile(r"(FileNotFound|Permission|NotADirectory|OS)Error: .*/usr/local/airflow\b.*")
_MODULE = re.compile(r"(ModuleNotFound|Import)Error: No module named '([\w.]+)'")

# The name of a distribution in a line of requirements: plain, in a URL, or
# in its fragment.
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?![\w/:+])")
_FILE = re.compile(r"\S*/([A-Za-z0-9][A-Za-z0-9._]*?)(?:-\d|\.git\b|@|\Z)")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9][A-Za-z0-9._-]*)")

# What every MWAA environment has without requirements.
_ON_MWAA = (
    "boto3",
    "botocore",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-celery",
    "psycopg2",
)

# Modules with names that are not found in those of their distributions,
# without punctuation.
_OTHER_NAMES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv",
    "fitz": "pymupdf",
    "mysqldb": "mysqlclient",
    "pil": "pillow",
    "pkgresources": "setuptools",
    "skimage": "scikitimage",
    "sklearn": "scikitlearn",
}

# Shorter names are found in too many others.
_SHORTEST = 3


class Unfinished(NamedTuple):
    """Why an import was not finished, and what to do."""

    why: str
    hint: str


def unfinished(traceback: str, requirements: Sequence[str]) -> Unfinished | None:
    """What was missing here, from a traceback; None where the file itself
    is wrong.

    `requirements` are the names of the distributions that MWAA installs.
    """
    last = traceback.strip().rpartition("\n")[2]
    return (
        _of_airflow(last)
        or _of_environment(last, traceback)
        or _of_aws(last)
        or _of_modules(last, requirements)
    )


def required(requirements: bytes) -> list[str]:
    """The names of the distributions in a requirements file."""
    found: list[str] = []
    for line in requirements.decode(errors="replace").splitlines():
        text = line.split(" #")[0].strip()
        plain = not text.startswith(("-", "#"))
        name = _EGG.search(text)
        if not name and plain:
            name = _REQUIREMENT.match(text) or _FILE.match(text)
        if name:
            found.append(name[1])
    return found


def _of_airflow(last: str) -> Unfinished | None:
    if _STORED.fullmatch(last):
        return Unfinished(
            f"it asks for a Variable or connection that only the real Airflow has: {last}",
            "Ask in a task, give a default, or give the check a value in check_variables.",
        )
    if found := _OPTION.fullmatch(last):
        name = f"AIRFLOW__{found[1]}__{found[2]}".upper()
        return Unfinished(
            f"it reads the Airflow option {found[1]}.{found[2]}, which is not set here",
            f'Give the check a value, such as check_env = {{ {name} = "value" }}.',
        )
    return None


def _of_environment(last: str, traceback: str) -> Unfinished | None:
    # Any dict raises KeyError: the traceback has to go through
    # `os.environ`.
    if (found := _VARIABLE.fullmatch(last)) and _ENVIRON.search(traceback):
        return Unfinished(
            f"it reads the environment variable {found[1]}, which is not set here",
            f'Give the check a value, such as check_env = {{ {found[1]} = "value" }},'
            " and make sure that MWAA has it.",
        )
    if _FOLDER.fullmatch(last):
        return Unfinished(
            f"it uses a path that only MWAA has: {last}",
            "Build paths from the file's own: `Path(__file__).parent`; or from AIRFLOW_HOME.",
        )
    return None


def _of_aws(last: str) -> Unfinished | None:
    if not _AWS.fullmatch(last):
        return None
    return Unfinished(
        f"it calls AWS, and the check has no credentials: {last}",
        "Call AWS in a task: Airflow reads files often.",
    )


def _of_modules(last: str, requirements: Sequence[str]) -> Unfinished | None:
    found = _MODULE.fullmatch(last)
    if not found:
        return None
    module = found[2]
    if distribution := _provider(module, requirements):
        return Unfinished(
            f"{module} is not installed here; {distribution} in the requirements may provide it",
            "Install the requirements beside the Airflow that airflow_python names.",
        )
    if distribution := _provider(module, _ON_MWAA):
        return Unfinished(
            f"{module} is not installed here; MWAA has it, from {distribution}",
            f"Install {distribution} beside the Airflow that airflow_python names.",
        )
    return None


def _provider(module: str, requirements: Sequence[str]) -> str | None:
    """The requirement that probably provides a module: names differ in dashes and prefixes."""
    plain = _plain(module)
    top = _plain(module.partition(".")[0])
    top = _OTHER_NAMES.get(top, top)
    for name in requirements:
        distribution = _plain(name).removeprefix("apache")
        # `airflow.providers.amazon.aws` comes from
        # apache-airflow-providers-amazon.
        if len(distribution) >= _SHORTEST and distribution in plain:
            return name
        # Every provider has `airflow` in its name; none of them provides
        # Airflow.
        if len(top) >= _SHORTEST and top != "airflow" and top in distribution:
            return name
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
