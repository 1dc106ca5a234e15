"""What a provider is: a module that reads a job's environment and speaks its log's language. Data
in, data out.

No provider makes a request: `token` says where the ID token comes from, and `oidc` fetches it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from cipipe.model import Context


class VariableToken(msgspec.Struct, frozen=True):
    """The ID token is the value of this environment variable."""

    variable: str


class FileToken(msgspec.Struct, frozen=True):
    """The ID token is the text of this file, which somebody keeps fresh."""

    path: str


class RequestToken(msgspec.Struct, frozen=True):
    """The ID token comes as `{"value": …}` in answer to a GET of `url` with `bearer` in the
    Authorization header.
    """

    url: str
    bearer: str

    def __repr__(self) -> str:
        return f"RequestToken({self.url!r})"


class NoToken(msgspec.Struct, frozen=True):
    """There is no ID token in this job; `hint` says how to get one."""

    hint: str


TokenSource = VariableToken | FileToken | RequestToken | NoToken


class Identity(msgspec.Struct, frozen=True):
    """How a provider's ID tokens look unless the configuration says otherwise."""

    issuer: str
    audience: str
    token_variable: str


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the claims of an ID token say about the job it was issued to; None where they do not
    say.

    `ref` is a short name. `merge_request` also covers pull requests and merge queues. `protected`
    is whether the provider protects the ref. `variable` is one with the value that it has to have
    in the job, where the claims leave open what started the run, and only what comes with that
    variable says so.
    """

    provider: str
    project: str | None
    ref: str | None
    ref_type: str | None
    merge_request: bool
    protected: bool | None
    variable: tuple[str, str] | None = None


class Subject(msgspec.Struct, frozen=True):
    """A `sub` claim, or a pattern for one, taken apart. `name` is the branch, tag or environment,
    decoded.

    `plain` is the subject as it is without the ids in it; `ids` are owner and project, where the
    subject has them. A `project` subject names the project and nothing else; a `custom` one was
    made by a template.
    """

    kind: Literal["branch", "tag", "environment", "merge-request", "project", "custom"]
    plain: str
    project: str = ""
    name: str = ""
    ids: tuple[str, str] | None = None


class Pins(msgspec.Struct, frozen=True):
    """The claims that stay the same when a project or its owner is renamed, and the variables where
    a job finds them.

    `protected` is the claim that says whether the ref is protected, where IAM can see one.
    """

    owner: str
    project: str
    owner_variable: str
    project_variable: str
    protected: str | None = None


class Merge(msgspec.Struct, frozen=True):
    """A commit that the provider made of a merge or pull request and its target. Each is None where
    it does not say.
    """

    commit: str | None
    target: str | None = None


class Provider(Protocol):
    """A module in `ci/`. Listed in `ci/__init__.py`."""

    NAME: str
    IDENTITY: Identity | None
    PINS: Pins | None

    DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]]
    """Claim → the values that a job which may deploy can have, and a merge request's job cannot."""

    def present(self, env: Mapping[str, str]) -> bool:
        """Whether this environment is one of the provider's jobs."""
        ...

    def context(self, env: Mapping[str, str]) -> Context:
        """What the provider says of this job."""
        ...

    def merge(self, env: Mapping[str, str]) -> Merge | None:
        """The merge that this job is for; None where it is for a commit of somebody's branch."""
        ...

    def token(self, env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
        """Where this job's ID token for `audience` comes from."""
        ...

    def secret_variables(self, env: Mapping[str, str]) -> frozenset[str]:
        """The variables that a token can be had with; child processes do not get them."""
        ...

    def state_login(self, env: Mapping[str, str], address: str) -> Mapping[str, str]:
        """The variables for Terraform's `http` backend with which a job gets at a state that the
        provider keeps.

        Empty where the address is not one of the provider's.
        """
        ...

    def deploy_subjects(
        self, project: str, *, branches: Iterable[str], tags: Iterable[str]
    ) -> list[str]:
        """The `sub` claims of tokens of these branches and tags; `*` in one is a wildcard."""
        ...

    def verify_subjects(self, project: str) -> list[str]:
        """The `sub` claims of any job of the project, merge and pull requests included."""
        ...

    def environment_subject(self, project: str, environment: str) -> str | None:
        """The `sub` claim of jobs that deploy to this environment of the project; None where it
        does not say so.
        """
        ...

    def component_subjects(
        self,
        project: str,
        components: Sequence[str],
        project_id: str | None,
        *,
        branches: Iterable[str],
        tags: Iterable[str],
    ) -> tuple[list[str], list[str]] | None:
        """Subjects to deploy and to verify where the project's consist of these claims; None where
        that cannot be.
        """
        ...

    def pinned_subject(self, subject: str, ids: tuple[str, str]) -> str | None:
        """A `sub` claim in its form with the ids of owner and project; None where there is no such
        form.
        """
        ...

    def subject(self, text: str) -> Subject | None:
        """A `sub` claim, or a pattern for one, taken apart; None where it is not of this provider."""
        ...

    def unmerged(self, claims: Mapping[str, Any]) -> bool:
        """Whether these claims are those of a merge or pull request's job, whatever the subject
        says.
        """
        ...

    def token_facts(self, claims: Mapping[str, Any]) -> TokenFacts | None:
        """What the claims say about the job; None where they are not this provider's."""
        ...

    def fold_start(self, name: str, title: str) -> str:
        """The line that opens a section of the log that can be folded; empty where there is no such
        thing.
        """
        ...

    def fold_end(self, name: str) -> str:
        """The line that closes the section of that name; empty where there is no such thing."""
        ...

    def warning(self, text: str) -> str:
        """A warning as a line of the log, shown outside of it too where the provider does that."""
        ...

    def mask(self, secret: str) -> str:
        """The lines that make the provider mask a secret from here on; empty where it has no such
        thing.
        """
        ...

    def inert(self, line: str) -> str:
        """A line of others such that the log shows it and the provider obeys nothing in it."""
        ...

    def colour(self, env: Mapping[str, str]) -> bool | None:
        """Whether the log shows ANSI colours; None where only the terminal knows."""
        ...


def commit(text: str | None) -> str | None:
    """A commit's id out of a variable or event: none where it is absent, empty or all zeros (there
    is no such commit).
    """
    return text if text and text.strip("0") else None


def number(text: str | None) -> int | None:
    """A variable's number; none where it is absent or not one."""
    return int(text) if text and text.isascii() and text.isdigit() else None


def one_line(text: str) -> str:
    """A title without line ends and control characters, which would break out of its line of the
    log.
    """
    return "".join(character if character.isprintable() else " " for character in text).strip()


def claim_text(claim: Any) -> str | None:
    """A claim that is a text with something in it."""
    return claim if isinstance(claim, str) and claim else None
