"""What was found and answered → the text of cipipe.toml."""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import msgspec

from cipipe.partitions import partition_of
from cipipe.pipeline.adoption.survey import Survey
from cipipe.pipeline.adoption.terraform_roots import FoundRoot

SCHEMA_FILE = "cipipe.schema.json"

# Settings of a backend that say where the state is. Secrets stay where they
# are.
_PLACES = (
    "bucket",
    "key",
    "region",
    "dynamodb_table",
    "address",
    "lock_address",
    "unlock_address",
    "lock_method",
    "unlock_method",
    "prefix",
)


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody answered, or accepted as it was found."""

    project: str
    branch: str
    # By environment, in the order in which they are deployed to.
    accounts: dict[str, str]
    regions: dict[str, str]
    # The host and the path at the provider, by the provider's name.
    providers: dict[str, tuple[str, str]]
    # The addresses of cipipe's GitLab component and GitHub workflow, and the
    # container image of their jobs; without them, pipelines install cipipe.
    component: str | None = None
    workflow: str | None = None
    image: str | None = None
    # Literals, where no output has them.
    repository: str | None = None
    dags_bucket: str | None = None

    def refs(self) -> dict[str, tuple[str, str]]:
        """What deploys to each environment: `branches` or `tags`, and a pattern.

        The default branch deploys to the first and a version's tag to the last. Each one between
        has a branch of its own, because a ref chooses one environment.
        """
        names = list(self.accounts)
        found = {names[0]: ("branches", self.branch)}
        for name in names[1:-1]:
            found[name] = ("branches", name if name != self.branch else f"deploy/{name}")
        if len(names) > 1:
            found[names[-1]] = ("tags", "v*")
        return found


def render(survey: Survey, answers: Answers) -> str:
    """The text of cipipe.toml. The same input gives the same text."""
    blocks = [
        f"#:schema ./{SCHEMA_FILE}\n# What cipipe deploys from this repository, and where.",
        _project(answers),
        *_oidc(answers),
        *_environments(survey, answers),
        *_stages(survey, answers),
    ]
    return "\n\n".join(blocks) + "\n"


def _project(answers: Answers) -> str:
    default = next(iter(answers.accounts))
    return f"[project]\nname = {_text(answers.project)}\ndefault_environment = {_text(default)}"


def _text(value: str) -> str:
    # JSON's strings without non-ASCII escapes are TOML's basic strings.
    value = value.encode(errors="replace").decode()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: list[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def _inline(table: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {_text(value)}" for key, value in table.items()) + " }"


def _oidc(answers: Answers) -> Iterator[str]:
    for provider, (host, path) in answers.providers.items():
        table = {"audience": "sts.amazonaws.com", "project": path}
        if provider == "gitlab":
            table["audience"] = f"https://{host}"
            if host != "gitlab.com":
                table["url"] = f"https://{host}"
        lines = [f"{key} = {_text(value)}" for key, value in table.items()]
        yield "\n".join([f"[oidc.{provider}]", *lines])


def _environments(survey: Survey, answers: Answers) -> Iterator[str]:
    names = list(answers.accounts)
    for number, name in enumerate(names):
        account = answers.accounts[name]
        region = answers.regions[name]
        role = f"arn:{partition_of(region)}:iam::{account}:role/{answers.project}-{name}"
        lines = [
            f"[environments.{name}]",
            f"account_id = {_text(account)}",
            f"region = {_text(region)}",
            "# `cipipe bootstrap` creates both roles.",
            f"role_arn = {_text(f'{role}-deploy')}",
            f"verify_role_arn = {_text(f'{role}-verify')}",
        ]
        kind, ref = answers.refs()[name]
        if 0 < number < len(names) - 1:
            lines.append(f"# Push what runs in {names[number - 1]} to this branch, and protect it.")
        lines.append(f"deploy_from = {{ {kind} = {_list([ref])} }}")
        if number > 0:
            lines.append(f"after = {_text(names[number - 1])}")
        if number > 0 and number == len(names) - 1:
            lines.append("protected = true")
        if survey.per_environment is not None:
            lines += _values(survey, name)
        yield "\n".join(lines)


def _values(survey: Survey, name: str) -> list[str]:
    """Where the environment's own root has its state."""
    found = [root for root in survey.roots if root.path == f"{survey.per_environment}/{name}"]
    places = _literal(found[0]) if found else {}
    varying = {key: value for key, value in places.items() if key in _varying(survey)}
    table = {f"state_{key}": value for key, value in varying.items()}
    return [f"values = {_inline(table)}"] if table else []


def _varying(survey: Survey) -> set[str]:
    """The settings that every environment's root has, each with its own value."""
    every = [_literal(root) for root in survey.roots]
    shared = set.intersection(*(set(places) for places in every)) if every else set()
    return {key for key in shared if len({places[key] for places in every}) > 1}


def _literal(root: FoundRoot) -> dict[str, str]:
    return {key: root.settings[key] for key in _PLACES if key in root.settings}


def _backend(stage: str, root: FoundRoot, survey: Survey, answers: Answers) -> str:
    kind = root.backend or "s3"
    places = _literal(root)
    if survey.per_environment is not None:
        varying = _varying(survey)
        places = {
            key: f"{{values.state_{key}}}" if key in varying else value
            for key, value in places.items()
        }
    if kind == "s3":
        # Several roots have a state each.
        more = "" if stage == "iac" else f"/{stage}"
        key = f"terraform/{{project}}/{{environment}}{more}.tfstate"
        return _inline({"bucket": "cipipe-{account_id}-{region}", "key": key, **places})
    if kind == "http" and "address" not in places and "gitlab" in answers.providers:
        host, path = answers.providers["gitlab"]
        project = f"https://{host}/api/v4/projects/{quote(path, safe='')}"
        state = f"{answers.project}-{{environment}}" + ("" if stage == "iac" else f"-{stage}")
        address = f"{project}/terraform/state/{state}"
        places |= {
            "address": address,
            "lock_address": f"{address}/lock",
            "unlock_address": f"{address}/lock",
            "lock_method": "POST",
            "unlock_method": "DELETE",
        }
    return _inline({"type": kind, **places})


def _stages(survey: Survey, answers: Answers) -> Iterator[str]:
    roots = survey.roots[:1] if survey.per_environment is not None else survey.roots
    names: list[str] = []
    for root in roots:
        names.append(_stage_name(root.path, names) if len(roots) > 1 else "iac")
        yield _terraform(names[-1], root, survey, answers)
    if survey.image is not None:
        yield _image(survey, answers, names)
        names.append("image")
    if survey.dags is not None:
        yield _dags(survey, answers, names)


def _stage_name(path: str, taken: list[str]) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")
    name = f"iac-{slug or 'top'}"[:50]
    return name if name not in taken else f"{name}-{len(taken) + 1}"


def _terraform(name: str, root: FoundRoot, survey: Survey, answers: Answers) -> str:
    path = root.path
    modules = {module for other in survey.roots for module in other.modules}
    if survey.per_environment is None:
        modules = set(root.modules)
    folder = survey.per_environment or path
    paths = (
        ["**/*.tf", "**/*.tfvars", "**/.terraform.lock.hcl"] if path == "." else [f"{folder}/**"]
    )
    if path == "." and root.has_json:
        paths.append("**/*.tf.json")
    if path != ".":
        paths += sorted(
            f"{module}/**" for module in modules if not module.startswith((f"{folder}/", ".."))
        )
    lines = [
        f"[stages.{name}]",
        'kind = "terraform"',
        f"paths = {_list(paths)}",
        f"root = {_text(f'{folder}/{{environment}}' if survey.per_environment else path)}",
        f"backend = {_backend(name, root, survey, answers)}",
    ]
    files = _var_files(root, list(answers.accounts)) if survey.per_environment is None else None
    return "\n".join([*lines, f"var_files = {_list([files])}"] if files else lines)


def _var_files(root: FoundRoot, environments: list[str]) -> str | None:
    """The file of variables of each environment, as one name with `{environment}`."""
    for file in root.var_files:
        above, slash, last = file.rpartition("/")
        if last.removesuffix(".tfvars") in environments:
            wanted = {f"{above}{slash}{name}.tfvars" for name in environments}
            if wanted <= set(root.var_files):
                return f"{above}{slash}{{environment}}.tfvars"
    return None


def _setting(output: str | None, literal: str | None) -> str:
    if literal is not None:
        return _text(literal)
    return f"{{ output = {_text(output or '')} }}"


def _image(survey: Survey, answers: Answers, needs: list[str]) -> str:
    assert survey.image is not None  # noqa: S101 - the caller has seen it
    context = survey.image.context
    paths = [f"{context}/**"]
    if context == ".":
        paths = ["Dockerfile", ".dockerignore", "requirements*.txt"]
        project = survey.image.project
        if project == ".":
            folders = ("models", "macros", "seeds", "snapshots", "analyses", "tests")
            paths += ["*.yml", *(f"{folder}/**" for folder in folders), "!.*.yml"]
        else:
            paths.append(f"{project}/**")
    return "\n".join(
        [
            "[stages.image]",
            'kind = "image"',
            f"paths = {_list(paths)}",
            f"context = {_text(context)}",
            f"repository = {_setting(survey.outputs.get('repository'), answers.repository)}",
            f"needs = {_list(needs)}",
        ]
    )


def _dags(survey: Survey, answers: Answers, needs: list[str]) -> str:
    found = survey.dags
    assert found is not None  # noqa: S101 - the caller has seen it
    paths = list(found.files) if found.source == "." else [f"{found.source}/**"]
    image = survey.image
    if image is not None and image.context.startswith(f"{found.source}/"):
        # It goes into the image.
        paths.append(f"!{image.context}/**")
    if found.plugins is not None:
        paths.append(f"{found.plugins}/**")
    lines = [
        "[stages.dags]",
        'kind = "dags"',
        f"paths = {_list(paths)}",
        f"source = {_text(found.source)}",
        f"bucket = {_setting(survey.outputs.get('bucket'), answers.dags_bucket)}",
    ]
    if found.requirements is not None:
        lines.append(f"requirements = {_text(found.requirements)}")
    if found.plugins is not None:
        lines.append(f"plugins = {_text(found.plugins)}")
    if found.startup is not None:
        lines.append(
            f"# MWAA's startup script, {found.startup}, is not uploaded: Terraform has it."
        )
    if "mwaa" in survey.outputs:
        name = _text(survey.outputs["mwaa"])
        lines.append(f'mwaa_environment = {{ output = {name}, default = "" }}')
    return "\n".join([*lines, f"needs = {_list(needs)}"])
