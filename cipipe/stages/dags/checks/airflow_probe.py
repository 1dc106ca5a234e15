"""A program for Airflow's own Python, run by its path: import DAG files as
Airflow does.

Arguments: a folder, the file for the answers, the seconds that a file may
take, and files to leave out. An answer is a JSON document on a line; the
last one says that all files are done. It imports nothing of cipipe.
"""

import faulthandler
import json
import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

_ON_MWAA = "/usr/local/airflow/"


def main(folder: str, answers: str, seconds: str, *known: str) -> None:
    # As in Airflow: its DAGs folder comes last. Python put the folder of
    # this program first, where it would hide modules of the same name.
    sys.path[:] = [*sys.path[1:], folder]
    find_modules_as_on_mwaa(str(Path(folder).parent))
    import airflow
    from airflow.utils.file import list_py_file_paths

    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        # Older versions.
        from airflow.models.dagbag import DagBag

    with Path(answers).open("a", encoding="utf-8") as stream:

        def answer(**parts: object) -> None:
            # Written at once: a file may end the process.
            stream.write(json.dumps(parts) + "\n")
            stream.flush()

        answer(airflow=airflow.__version__)
        for path in sorted(map(str, list_py_file_paths(folder, safe_mode=True))):
            if path in known:
                continue
            answer(file=path, started=True)
            # Airflow's own limit is an exception, which code in C does not
            # notice. This one ends whatever hangs.
            faulthandler.dump_traceback_later(float(seconds) + 5, exit=True)
            bag = DagBag(path)
            faulthandler.cancel_dump_traceback_later()
            errors = [str(text) for text in bag.import_errors.values()]
            answer(file=path, dags=sorted(bag.dags), errors=errors)
        answer(done=True)


def find_modules_as_on_mwaa(home: str) -> None:
    """Look for modules below `home` where `sys.path` has a folder that
    exists on MWAA only.

    DAG files add such folders themselves:
    `sys.path.append("/usr/local/airflow/dags/lib")`.
    """

    def hook(path: str) -> FileFinder:
        # ImportError means: not for this hook. The path may be bytes, which
        # pathlib refuses.
        if not path.startswith(_ON_MWAA) or os.path.isdir(path):  # noqa: PTH112
            raise ImportError
        return FileFinder(f"{home}/{path[len(_ON_MWAA) :]}", (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, hook)


if __name__ == "__main__":
    main(*sys.argv[1:])
