"""Why an import could not be finished here although it may well be on MWAA: what only the real
environment has.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_STORED = re.compile(
    r"KeyError: 'Variable .* does not exist\.?'"
    r"|[\w.]*AirflowNotFoundException: The conn_id .* isn't defined"
    r"|[\w.]*AirflowRuntimeError: (VARIABLE|CONNECTION)_NOT_FOUND\b.*"
)
"""How Airflow 2 and 3 end a traceback where a Variable or a connection is not there: here none is."""

_VARIABLE = re.compile(r"KeyError: '([A-Za-z_][A-Za-z0-9_]*)'")
_ENVIRON = re.compile(r'File "(<frozen os>|[^"]*/os\.py)", line \d+, in __getitem__')
_OPTION = re.compile(r"[\w.]*AirflowConfigException: section/key \[(.*)/(.*)\] not found in config")
_AWS = re.compile(
    r"botocore\.(exceptions\.(NoCredentials|PartialCredentials|CredentialRetrieval|NoRegion|Client|EndpointConnection"
    r"|ConnectTimeout|ReadTimeout|ConnectionClosed|HTTPClient|ProxyConnection|SSL|TokenRetrieval|ConfigNotFound)(Error)?"
    r"|exceptions\.ProfileNotFound|errorfactory\.\w+): .*"
)
_FOLDER = re.compile(r"(FileNotFound|Permission|NotADirectory|OS)Error: .*/usr/local/airflow\b.*")
_MODULE = re.compile(r"(ModuleNotFound|Import)Error: No module named '([\w.]+)'")
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?![\w/:+])")
_FILE = re.compile(r"\S*/([A-Za-z0-9][A-Za-z0-9._]*?)(?:-\d|\.git\b|@|\Z)")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9][A-Za-z0-9._-]*)")
_ON_MWAA = (
    "boto3",
    "botocore",
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-celery",
    "psycopg2",
)
"""What each environment of MWAA has without being asked."""

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
"""Modules whose names are not found in those of their distributions."""

_SHORTEST = 3


class Lacking(NamedTuple):
    """Why an import was not finished, and what to do."""

    why: str
    hint: str


def unfinished(traceback: str, requirements: Sequence[str]) -> Lacking | None:
    """What was lacking here, from a traceback; None where the file is at fault."""
    last = traceback.strip().rpartition("\n")[2]
    if _STORED.fullmatch(last):
        return Lacking(
            f"it asks for a Variable or connection that only the real Airflow has: {last}",
            "Ask in a task, give a default, or give the check a value in check_variables.",
        )
    if (found := _VARIABLE.fullmatch(last)) and _ENVIRON.search(traceback):
        return Lacking(
            f"it reads the environment variable {found[1]}, which is not set here",
            f'Give the check a value, such as check_env = {{ {found[1]} = "value" }}, and make sure that MWAA has it.',
        )
    if found := _OPTION.fullmatch(last):
        name = f"AIRFLOW__{found[1]}__{found[2]}".upper()
        return Lacking(
            f"it reads the Airflow option {found[1]}.{found[2]}, which is not set here",
            f'Give the check a value, such as check_env = {{ {name} = "value" }}.',
        )
    if _AWS.fullmatch(last):
        return Lacking(
            f"it calls AWS, and the check has no credentials: {last}",
            "Call AWS in a task: Airflow reads files often.",
        )
    if _FOLDER.fullmatch(last):
        return Lacking(
            f"it uses a path that only MWAA has: {last}",
            "Build paths from the file's own: `Path(__file__).parent`; or from AIRFLOW_HOME.",
        )
    if (found := _MODULE.fullmatch(last)) and (bringing := _provider(found[2], requirements)):
        return Lacking(
            f"{found[2]} is not installed here; {bringing} in the requirements may bring it",
            "Install the requirements beside the Airflow that airflow_python names.",
        )
    if found and (bringing := _provider(found[2], _ON_MWAA)):
        return Lacking(
            f"{found[2]} is not installed here; MWAA has it, of {bringing}",
            f"Install {bringing} beside the Airflow that airflow_python names.",
        )
    return None


def required(requirements: bytes) -> list[str]:
    """The names of the distributions in a requirements file."""
    found: list[str] = []
    for line in requirements.decode(errors="replace").splitlines():
        text = line.split(" #")[0].strip()
        plain = not text.startswith(("-", "#"))
        if name := _EGG.search(text) or (plain and (_REQUIREMENT.match(text) or _FILE.match(text))):
            found.append(name[1])
    return found


def _provider(module: str, requirements: Sequence[str]) -> str | None:
    """The requirement that probably brings a module: names differ in dashes, prefixes and the like."""
    plain = _plain(module)
    top = _plain(module.partition(".")[0])
    top = _OTHER_NAMES.get(top, top)
    for name in requirements:
        distribution = _plain(name).removeprefix("apache")
        if len(distribution) >= _SHORTEST and distribution in plain:
            return name
        if len(top) >= _SHORTEST and top != "airflow" and top in distribution:
            return name
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
