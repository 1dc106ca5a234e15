"""Started by an Airflow's own Python: run DAGs of a folder, one after the other, and write down how
each run ended.

    python airflow_child.py DAGS RUNS ANSWER

RUNS is JSON: a list of `{name, dag, ending, env, timeout, retries}`. Waiting is cut short, retries
are off except for the tasks in `retries`, `timeout` (seconds, or null) is the tasks' own; nothing
else of a DAG is changed.
"""

import json
import os
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

SPEED = {
    "poll_seconds": 0.2,
    "waiter_delay": 1,
    "poke_interval": 0.2,
    "sleep_time": 0,
    "awslogs_fetch_interval": timedelta(seconds=0.2),
}


def main(folder: str, runs: str, answer: str) -> None:
    import airflow
    from airflow.providers.amazon.aws.operators import ecs

    sys.path.append(folder)  # as Airflow's own processes do
    # Newer providers wait for the name of a container, which ours has at once.
    ecs.sleep = lambda seconds: None
    dags = _read(folder)
    results = {}
    for run in json.loads(Path(runs).read_text()):
        os.environ.update(run["env"])
        _announce(run["name"], run["ending"])
        dag = dags[run["dag"]]
        for task in dag.tasks:
            task.retries = run["retries"].get(task.task_id, 0)
            task.retry_delay = timedelta(0)
            task.execution_timeout = run["timeout"] and timedelta(seconds=run["timeout"])
            for name in SPEED.keys() & vars(task).keys():
                setattr(task, name, SPEED[name])
        print(f"==> {run['name']}", flush=True)
        done = _test(dag)
        results[run["name"]] = {
            "state": str(done.state),
            "tasks": {
                instance.task_id: str(instance.state) for instance in done.get_task_instances()
            },
        }
    Path(answer).write_text(json.dumps({"airflow": airflow.__version__, "runs": results}))


def _test(dag: Any) -> Any:
    from airflow.exceptions import AirflowTaskTimeout
    from airflow.models import DagRun

    try:
        return dag.test()
    except AirflowTaskTimeout:
        # Airflow 2 gives up on the run here, with the task failed; so look at its state.
        run = max(DagRun.find(dag_id=dag.dag_id), key=lambda run: run.id)
        run.dag = dag
        run.update_state()
        return run


def _read(folder: str) -> dict[str, Any]:
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    bag = DagBag(folder)
    assert not bag.import_errors, bag.import_errors
    return dict(bag.dags)


def _announce(name: str, ending: str) -> None:
    body = json.dumps([name, ending]).encode()
    request = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + "/next", body, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
