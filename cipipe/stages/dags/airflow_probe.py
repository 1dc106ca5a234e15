"""Run by Airflow's own Python, by path: read DAG files as Airflow does, and say of each what came of it.

Takes a folder, the file for the answers (a JSON document a line; the last one says that all are done), the seconds that a file may take, and the files to
leave out. Imports nothing of cipipe.
"""

import faulthandler
import json
import sys
from pathlib import Path


def main(folder: str, answers: str, seconds: str, *known: str) -> None:
    # As in Airflow: its DAGs folder comes last, and the folder of this program, which Python puts first, is not there.
    sys.path[:] = [*sys.path[1:], folder]
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
            tell(file=path, dags=sorted(bag.dags), errors=[str(text) for text in bag.import_errors.values()])
        tell(done=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
