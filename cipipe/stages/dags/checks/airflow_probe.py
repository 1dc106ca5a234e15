"""Run by Airflow's own Python, by path: read DAG files as Airflow does, and say of each what came
of it.

Takes a folder, the file for the answers (a JSON document a line; the last one says that all are
done), the seconds that a file may take, and the files to leave out. Imports nothing of cipipe.
"""

import faulthandler
import json
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

_ON_MWAA = "/usr/local/airflow/"


def main(folder: str, answers: str, seconds: str, *known: str) -> None:
    # As in Airflow: its DAGs folder comes last, and the folder of this program, which Python puts
    # first, is not there.
    sys.path[:] = [*sys.path[1:], folder]
    find_modules_as_on_mwaa(str(Path(folder).parent))
    import airflow
    from airflow.utils.file import list_py_file_paths

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag

    with Path(answers).open("a", encoding="utf-8") as told:

        def tell(**parts: object) -> None:
            told.write(json.dumps(parts) + "\n")
            told.flush()

        tell(airflow=airflow.__version__)
        for path in sorted(map(str, list_py_file_paths(folder, safe_mode=True))):
            if path in known:
                continue
            tell(file=path, begun=True)
            # Airflow's own limit raises in Python code only; this one ends whatever hangs.
            faulthandler.dump_traceback_later(float(seconds) + 5, exit=True)
            bag = DagBag(path)
            faulthandler.cancel_dump_traceback_later()
            tell(
                file=path,
                dags=sorted(bag.dags),
                errors=[str(text) for text in bag.import_errors.values()],
            )
        tell(done=True)


def find_modules_as_on_mwaa(home: str) -> None:
    """Look for modules below `home` where `sys.path` names a folder that MWAA has, and this machine
    has not.
    """

    def hook(path: str) -> FileFinder:
        if not path.startswith(_ON_MWAA) or os.path.isdir(path):  # noqa: PTH112 - the path may be bytes
            raise ImportError
        return FileFinder(f"{home}/{path[len(_ON_MWAA) :]}", (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, hook)


if __name__ == "__main__":
    main(*sys.argv[1:])
