"""What a provider is: a module that reads a job's environment and writes in
its log's language. Data in, data out.

No provider makes a request: `token` says where the ID token comes from, and
`oidc` gets it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from cipipe.model import Context, DeployFrom


class VariableToken(msgspec.Struct, frozen=True):
    """The ID token is the value of this environment variable."""

    variable: str


class FileToken(msgspec.Struct, frozen=True):
    """The ID token is the text of this file, which something else keeps up to date."""

    path: str


class RequestToken(msgspec.Struct, frozen=True):
    """The ID token is requested: a GET of `url` is answered with `{"value": …}`."""

    url: str

    # For the Authorization header. Secret.
    bearer: str

    def __repr__(self) -> str:
        return f"RequestToken({self.url!r})"


class NoToken(msgspec.Struct, frozen=True):
    """There is no ID token in this job."""

    # How to get one.
    hint: str


TokenSource = VariableToken | FileToken | RequestToken | NoToken


class Identity(msgspec.Struct, frozen=True):
    """A provider's ID tokens, unless the configuration says otherwise."""

    # A URL.
    issuer: str = ""
    audience: str = ""

    # The variable with the token; empty if it has to be requested.
    token_variable: str = ""


class TokenFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the claims of an ID token say about its job. None: they do not say."""

    provider: str
    project: str | None

    # Without `refs/heads/` or `refs/tags/`.
    ref: str | None
    ref_type: str | None

    # Also true for pull requests and merge queues.
    merge_request: bool

    # Whether the provider protects the ref.
    protected: bool | None

    # A variable with the value that it has to have in the job. Set where
    # the claims do not say what started the run, and only the payload that
    # comes with that variable does.
    variable: tuple[str, str] | None = None


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a `sub` claim, or of a pattern for one."""

    # `project`: it names the project and nothing else. `custom`: it was
    # made from a template.
    kind: Literal["branch", "tag", "environment", "merge-request", "project", "custom"]

    # The subject without the ids in it.
    plain: str
    project: str = ""

    # The branch, tag or environment, decoded.
    name: str = ""

    # Those of owner and project; None if the subject has none.
    ids: tuple[str, str] | None = None


class Pins(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that stay the same when a project or its owner is renamed."""

    owner: str = ""
    project: str = ""

    # The variables with their values in a job.
    owner_variable: str = ""
    project_variable: str = ""

    # The claim that says whether the ref is protected, where IAM sees it.
    protected: str | None = None


class Merge(msgspec.Struct, frozen=True):
    """A commit that the provider made from a merge or pull request and its
    target.

    None: it does not say.
    """

    commit: str | None
    target: str | None = None


class Provider(Protocol):
    """A module in `ci/`. Listed in `ci/__init__.py`."""

    NAME: str
    IDENTITY: Identity | None
    PINS: Pins | None

    # Claim → the values that a job which may deploy can have, and a merge
    # request's job cannot.
    DEPLOY_CLAIMS: Mapping[str, tuple[str, ...]]

    def present(self, env: Mapping[str, str]) -> bool:
        """Whether this is the environment of one of the provider's jobs."""
        ...

    def context(self, env: Mapping[str, str]) -> Context:
        """What the provider says about this job."""
        ...

    def merge(self, env: Mapping[str, str]) -> Merge | None:
        """The merge that this job runs for; None if it runs for a commit of a branch."""
        ...

    def token(self, env: Mapping[str, str], *, audience: str, token_variable: str) -> TokenSource:
        """Where this job's ID token for `audience` comes from."""
        ...

    def secret_variables(self, env: Mapping[str, str]) -> frozenset[str]:
        """The variables with secrets that can get a token; child processes do not inherit them."""
        ...

    def state_login(self, env: Mapping[str, str], address: str) -> Mapping[str, str]:
        """The variables with which Terraform's `http` backend can log in at
        the provider's own state storage; empty if the address is not the
        provider's.
        """
        ...

    def deploy_subjects(self, project: str, refs: DeployFrom) -> list[str]:
        """The `sub` claims of tokens of these branches and tags; `*` in a ref is a wildcard."""
        ...

    def verify_subjects(self, project: str) -> list[str]:
        """The `sub` claims of any job of the project, merge and pull requests included."""
        ...

    def environment_subject(self, project: str, environment: str) -> str | None:
        """The `sub` claim of jobs that deploy to this environment; None if it does not say."""
        ...

    def component_subjects(
        self, project: str, components: Sequence[str], project_id: str | None, refs: DeployFrom
    ) -> tuple[list[str], list[str]] | None:
        """Subjects to deploy and to verify if the project builds its
        subjects from these claims.

        None if that is not possible.
        """
        ...

    def pinned_subject(self, subject: str, ids: tuple[str, str]) -> str | None:
        """A `sub` claim in the form with the ids of owner and project; None
        if there is no such form.
        """
        ...

    def subject(self, text: str) -> Subject | None:
        """The parts of a `sub` claim, or of a pattern; None if it is not of this provider."""
        ...

    def unmerged(self, claims: Mapping[str, Any]) -> bool:
        """Whether these claims are those of a merge or pull request, whatever the subject is."""
        ...

    def token_facts(self, claims: Mapping[str, Any]) -> TokenFacts | None:
        """What the claims say about the job; None if they are not this provider's."""
        ...

    def fold_start(self, name: str, title: str) -> str:
        """The line that opens a section of the log that can be folded; empty if there is none."""
        ...

    def fold_end(self, name: str) -> str:
        """The line that closes the section of that name; empty if there is none."""
        ...

    def warning(self, text: str) -> str:
        """A warning as a line of the log, which some providers also show elsewhere."""
        ...

    def mask(self, secret: str) -> str:
        """The lines that make the provider mask a secret from now on; empty if it cannot."""
        ...

    def inert(self, line: str) -> str:
        """A line of foreign output, changed so that the provider obeys nothing in it."""
        ...

    def colour(self, env: Mapping[str, str]) -> bool | None:
        """Whether the log shows ANSI colours; None if only the terminal knows."""
        ...


def commit(text: str | None) -> str | None:
    """A commit's id from a variable or event; None if it is missing, empty
    or all zeros, which is how providers say that there is no commit.
    """
    return text if text and text.strip("0") else None


def number(text: str | None) -> int | None:
    """A variable's number; None if it is missing or not a number."""
    return int(text) if text and text.isascii() and text.isdigit() else None


def one_line(text: str) -> str:
    """A title without line ends and control characters, which would break out of its line."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


def claim_text(claim: Any) -> str | None:
    """A claim that is a string and not empty."""
    return claim if isinstance(claim, str) and claim else None
