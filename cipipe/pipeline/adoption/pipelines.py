"""The shortest pipeline that deploys: `cipipe run` for each environment, in
verify mode for merge and pull requests.

Forks and Dependabot have no identity in AWS, so no job runs for them.
"""

import json
from typing import Any

from cipipe import DISTRIBUTION, __version__
from cipipe.pipeline.adoption.configuration import Answers
from cipipe.pipeline.adoption.survey import Survey

GITLAB = ".gitlab-ci.yml"
GITHUB = ".github/workflows/cipipe.yml"

_INSTALL = f"pip install --quiet {DISTRIBUTION}=={__version__}"


def pipelines(survey: Survey, answers: Answers) -> dict[str, str]:
    """The file for each provider, by its path."""
    found = {}
    if "gitlab" in answers.providers:
        gitlab = _component if answers.component else _gitlab
        found[GITLAB] = gitlab(survey, answers)
    if "github" in answers.providers:
        found[GITHUB] = _workflow(answers) if answers.workflow else _github(survey, answers)
    return found


def _component(survey: Survey, answers: Answers) -> str:
    """The component, once for each environment."""
    includes = []
    for name, rule in _rules(answers).items():
        inputs: dict[str, Any] = {
            "image": answers.image,
            **({} if name == "dev" else {"environment": name}),
            **({} if rule == _DEFAULT_BRANCH else {"deploy_if": rule}),
            **({} if survey.image is not None else {"services": []}),
        }
        lines = "".join(f"      {key}: {json.dumps(value)}\n" for key, value in inputs.items())
        includes.append(f"  - component: {json.dumps(answers.component)}\n    inputs:\n{lines}")
    return "include:\n" + "".join(includes)


def _workflow(answers: Answers) -> str:
    """A caller of the reusable workflow."""
    image = f"    with:\n      image: {json.dumps(answers.image)}\n" if answers.image else ""
    return _GITHUB_CALLER.format(
        branches=_branches(answers),
        tags='    tags: ["v*"]\n' if len(answers.accounts) > 1 else "",
        workflow=json.dumps(answers.workflow),
        image=image,
    )


def _rules(answers: Answers) -> dict[str, str]:
    """The refs that deploy to each environment, as GitLab's `rules:if` has it."""
    rules = {}
    for name, (kind, ref) in answers.refs().items():
        if kind == "tags":
            rules[name] = _VERSION_TAG
        elif ref == answers.branch:
            rules[name] = _DEFAULT_BRANCH
        else:
            rules[name] = f'$CI_COMMIT_BRANCH == "{ref}"'
    return rules


def _branches(answers: Answers) -> str:
    """The branches that deploy, as a list in YAML."""
    return json.dumps([ref for kind, ref in answers.refs().values() if kind == "branches"])


_DEFAULT_BRANCH = "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
_VERSION_TAG = "$CI_COMMIT_TAG =~ /^v/"

_GITHUB_CALLER = """\
# The jobs are those of cipipe's workflow. The branch or tag chooses the environment, by
# `deploy_from` in cipipe.toml; a pull request only verifies.
name: cipipe

on:
  push:
    branches: {branches}
{tags}  pull_request:

permissions: {{}}

jobs:
  cipipe:
    name: cipipe
    uses: {workflow}
    permissions:
      contents: read # to check the repository out
      id-token: write # to get a session from AWS
{image}"""


_GITHUB_HEAD = """\
# The branch or tag chooses the environment, by `deploy_from` in cipipe.toml. A pull request only
# verifies.
#
# No job names a GitHub environment: with one, the token's `sub` would no longer contain the branch,
# which the roles' trust policies require. Protect the branches and tags that deploy with rulesets.
name: cipipe

on:
  push:
    branches: BRANCHES
TAGS  pull_request:

permissions: {}

# One deployment to an environment at a time. A newer run replaces a waiting one: stages are due by
# content.
concurrency:
  group: cipipe-${{ github.ref_type == 'tag' && 'tag' || github.ref }}
  cancel-in-progress: false

jobs:
  run:
    name: cipipe run
    if: >-
      github.event_name == 'push' ||
      (github.event.pull_request.head.repo.full_name == github.repository &&
      github.event.pull_request.user.login != 'dependabot[bot]')
    runs-on: ubuntu-24.04
    timeout-minutes: 90
    permissions:
      contents: read # to check out the repository
      id-token: write # to get a session from AWS
    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with:
          persist-credentials: false
      - uses: actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97 # v7.0.0
        with:
          python-version: "3.12"
"""
_GITHUB_INSTALL = f"""\
      - run: {_INSTALL}
"""
_GITHUB_TERRAFORM = """\
      - run: cipipe iac install --to "$RUNNER_TEMP/bin" && echo "$RUNNER_TEMP/bin" >>"$GITHUB_PATH"
"""
_GITHUB_RUN = """\
      # `exec`, so that a cancelled job's signals reach cipipe.
      - run: exec cipipe run
"""


def _github(survey: Survey, answers: Answers) -> str:
    tags = '    tags: ["v*"]\n' if len(answers.accounts) > 1 else ""
    head = _GITHUB_HEAD.replace("TAGS", tags).replace("BRANCHES", _branches(answers))
    terraform = _GITHUB_TERRAFORM if survey.roots else ""
    return head + _GITHUB_INSTALL + terraform + _GITHUB_RUN


_GITLAB_HEAD = """\
# The branch or tag chooses the environment, as `deploy_from` in cipipe.toml does. A merge request
# only verifies.

stages: [verify, deploy]

workflow:
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
RULES
.cipipe:
  image: python:3.12-trixie
  timeout: 90 minutes
  id_tokens:
    AWS_ID_TOKEN:
      aud: AUDIENCE
"""
_GITLAB_DOCKER = """\
  # Needs a runner with `privileged = true`, as gitlab.com's are.
  services:
    - name: docker:27-dind
      alias: docker
  variables:
    DOCKER_HOST: tcp://docker:2376
    DOCKER_TLS_CERTDIR: /certs
    DOCKER_TLS_VERIFY: "1"
    DOCKER_CERT_PATH: /certs/client
"""
_GITLAB_DOCKER_COMMAND = """\
    - apt-get update -qq
    - apt-get install -qq --no-install-recommends docker-cli docker-buildx
"""
_GITLAB_TERRAFORM = "    - cipipe iac install --to /usr/local/bin\n"
_GITLAB_VERIFY = """
# Forks have no identity in AWS.
verify:
  extends: .cipipe
  stage: verify
  rules:
    - if: >-
        $CI_PIPELINE_SOURCE == "merge_request_event" &&
        $CI_MERGE_REQUEST_SOURCE_PROJECT_PATH == $CI_MERGE_REQUEST_PROJECT_PATH
  script:
    - cipipe run
"""
_GITLAB_DEPLOY = """
deploy:{env}:
  extends: .cipipe
  stage: deploy
  rules:
    - if: {rule}
  environment:
    name: {env}
  # One deployment at a time.
  resource_group: {project}/{env}
  script:
    - cipipe run --env {env}
"""


def _gitlab(survey: Survey, answers: Answers) -> str:
    rules = _rules(answers)
    deploying = "".join(f"    - if: {rule}\n" for rule in rules.values())
    host, _ = answers.providers["gitlab"]
    text = _GITLAB_HEAD.replace("AUDIENCE", f"https://{host}").replace("RULES\n", f"{deploying}\n")
    if survey.image is not None:
        text += _GITLAB_DOCKER
    text += f"  before_script:\n    - {_INSTALL}\n"
    text += _GITLAB_TERRAFORM if survey.roots else ""
    text += _GITLAB_DOCKER_COMMAND if survey.image is not None else ""
    text += _GITLAB_VERIFY
    for name, rule in rules.items():
        text += _GITLAB_DEPLOY.format(env=name, rule=rule, project=answers.project)
    return text
