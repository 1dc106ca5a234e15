"""All checks of the files as they would be uploaded, in order of cost."""

import sys
from collections.abc import Mapping

import msgspec

from cipipe.errors import Problem
from cipipe.stages.context import StageContext
from cipipe.stages.dags.checks import airflow_imports, airflowignore, containers, static
from cipipe.stages.dags.files import relative
from cipipe.stages.dags.mwaa import environment as mwaa
from cipipe.stages.dags.render import Rendered
from cipipe.stages.dags.settings import Settings


def check(context: StageContext[Settings], rendered: Rendered) -> list[Problem]:
    """Check what would be uploaded; returns warnings.

    Raises RefusedError (`dags-empty`), ProblemsError (`dags-check-failed`)
    and StageError.
    """
    settings = context.stage.settings
    below, misplaced = mwaa.placed(settings.prefix, mwaa.dag_folder(context))
    ignored = ignored_files(context, rendered.bodies, below)
    rules = static.Rules(
        source=settings.source,
        allow_empty=settings.allow_empty or context.allow_empty,
        airflow_version=settings.airflow_version,
        ignored=ignored.paths,
        compiled_elsewhere=airflow_imports.python_of(context) not in {None, sys.executable},
    )
    return [
        *misplaced,
        *ignored.problems,
        *static.check(rendered.sources, rendered.bodies, rules),
        *containers.check(context, rendered.bodies, rendered.replacements),
        *airflow_imports.check(context, rendered.bodies, below, extras=rendered.extras),
    ]


def ignored_files(
    context: StageContext[Settings], bodies: Mapping[str, bytes], below: str
) -> airflowignore.Ignored:
    """The files that `.airflowignore` names, by repository path.

    `below` is where the source is in Airflow's DAGs folder.
    """
    settings = context.stage.settings
    paths = {relative(path, settings.source) or path: path for path in bodies}
    found = airflowignore.ignored(
        {name: bodies[path] for name, path in paths.items()},
        version=settings.airflow_version,
        env=settings.check_env,
        root=below,
    )
    problems = [
        msgspec.structs.replace(problem, where=paths[problem.where]) for problem in found.problems
    ]
    return airflowignore.Ignored(frozenset(paths[name] for name in found.paths), tuple(problems))
