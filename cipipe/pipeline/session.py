"""One command's session: the project in one environment, and how to reach
AWS from there.

`cli` makes it once and hands it to a use case. What plans offline imports
this module, so whatever talks to AWS is imported by the methods that need
it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from cipipe import shield
from cipipe.interrupt import Interrupt
from cipipe.model import Environment, Mode
from cipipe.pace import USUAL, Pace
from cipipe.pipeline.project import Project
from cipipe.redact import Redactor

if TYPE_CHECKING:
    from cipipe.ledger import Ledger
    from cipipe.model import StagePlan
    from cipipe.oidc.renewal import Renewed
    from cipipe.pipeline.identity.access import Access
    from cipipe.pipeline.identity.target import AwsTarget
    from cipipe.progress import Progress
    from cipipe.results import StageReport
    from cipipe.stages.terraform.root import CommandContext
    from cipipe.tools.aws.credentials import Credentials
    from cipipe.tools.aws.endpoint import Endpoint


class Silent:
    """Progress that nobody follows. Meets `progress.Progress`."""

    def stage_started(self, stage: "StagePlan", *, alone: bool) -> None: ...

    def step(self, stage: str, title: str) -> None: ...

    def line(self, stage: str, text: str) -> None: ...

    def stage_finished(self, report: "StageReport") -> None: ...

    def warning(self, text: str) -> None: ...


def _silent(text: str) -> None: ...


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What the use cases of one command share."""

    # As it is in the environment: its stages only, with their values filled
    # in.
    project: Project
    environment_name: str
    redactor: Redactor
    # Follows the stages of a run, from several threads.
    progress: "Progress" = Silent()
    # Shows a line of progress that belongs to no stage.
    say: Callable[[str], None] = _silent
    # Shows a line that is of interest with -v only.
    detail: Callable[[str], None] = _silent
    # Ctrl-C: what waits for AWS, or runs a stage, in another thread looks
    # at it.
    interrupt: Interrupt = msgspec.field(default_factory=Interrupt)
    pace: Pace = USUAL
    # The sandbox; None where AWS is AWS.
    target: "AwsTarget | None" = None

    @property
    def environment(self) -> Environment:
        return self.project.config.environment(self.environment_name)

    @property
    def sandbox(self) -> bool:
        return self.target is not None

    @property
    def command_options(self) -> tuple[str, ...]:
        """The options that a further command needs to find this configuration and this sandbox."""
        return self.project.command_options(sandbox=self.sandbox)

    def at(self, name: str) -> "Session":
        """The same command in another environment of the project."""
        project = self.project.at(name)
        return msgspec.structs.replace(self, project=project, environment_name=name)

    def endpoint(self) -> "Endpoint":
        """Where AWS is for this environment."""
        from cipipe.tools.aws.endpoint import Endpoint

        region = self.environment.region
        if self.target is not None:
            return self.target.endpoint(region)
        return Endpoint.found_in(self.project.env, region)

    def connect(self, mode: Mode, *, read_only: bool = False) -> "Access":
        """Exchange the job's token for the environment's role, or use a
        person's own credentials.

        `read_only` uses the verify role where the environment has one;
        verify mode never uses another one. Start long-running children
        inside `profile.served`. Raises IdentityError, and RefusedError
        `merge-request-read-only`.
        """
        from cipipe.oidc.no_token import no_token
        from cipipe.pipeline.identity import access, tokens
        from cipipe.tools.aws.clients import Aws

        # From here on this process holds credentials that its children must
        # not read.
        shield.undumpable()
        endpoint = self.endpoint()
        account = self.environment.account_id
        renewed = self.role_session(mode, read_only=read_only)
        if renewed is not None:
            credentials: Credentials | None = renewed.current()
            aws = Aws(endpoint, renewed.current, account=account, interrupt=self.interrupt)
        elif mode is Mode.VERIFY:
            raise no_token(
                "a merge or pull request uses the verify role only, and this job has no ID token "
                "for it",
                hint="Give the job an ID token, or plan with --offline.",
                where=f"environments.{self.environment_name}.verify_role_arn",
            )
        else:
            credentials = tokens.ambient(self.project)
            if credentials is not None:
                self.redactor.register(credentials.secret_access_key)
                self.redactor.register(credentials.session_token or "")
            aws = Aws(endpoint, credentials, account=account, interrupt=self.interrupt)
            access.check_account(aws, self.environment_name, self.environment)

        child_env = access.child_environment(
            project=self.project,
            environment=self.environment,
            endpoint=endpoint,
            credentials=credentials,
            target=self.target,
        )
        return access.Access(aws, child_env, renewed)

    def role_session(self, mode: Mode, *, read_only: bool = False) -> "Renewed | None":
        """The role's credentials, renewed as they expire; None where this
        process has no token.

        Nothing is exchanged yet. The job of a merge request gets the verify
        role and no other. Raises IdentityError where a token or a role is
        required and missing, and RefusedError `merge-request-read-only`.
        """
        from cipipe.oidc.renewal import Renewed
        from cipipe.pipeline.identity import role_session, tokens
        from cipipe.pipeline.identity.job_token import refuse_token

        name = self.environment_name
        environment = self.environment
        reviewed = self.project.context.mode is Mode.VERIFY and mode is not Mode.VERIFY
        if reviewed and not read_only:
            raise role_session.merge_request_read_only(name)
        for variable in tokens.secret_variables(self.project):
            self.redactor.register(self.project.env.get(variable, ""))

        role, via = role_session.role_of(name, environment, mode, read_only=read_only)
        mint = tokens.minting(self.project, environment, self.target, self.interrupt)
        if mint is None:
            return None
        if reviewed:
            role, via = role_session.role_of(name, environment, Mode.VERIFY)

        # The sandbox issues its tokens itself, so only a token of the
        # provider is looked at.
        deploys = mode is not Mode.VERIFY and role == environment.role_arn
        inspect = None
        if deploys and tokens.has_token(self.project):
            inspect = partial(refuse_token, self.project, name, read_only=read_only)

        exchange = role_session.Exchange(
            mint=mint,
            session=role_session.request_for(environment, role, self.role_session_name),
            via=via,
            endpoint=self.endpoint(),
            redactor=self.redactor,
            interrupt=self.interrupt,
            admin=self.target.admin if self.target is not None else None,
            inspect=inspect,
        )
        return Renewed(exchange, role_session.now)

    @property
    def role_session_name(self) -> str:
        """The name of this job's sessions at STS, which CloudTrail shows."""
        from cipipe.oidc.session import session_name

        project = self.project.config.project.name
        context = self.project.context
        return session_name(project, self.environment_name, str(context.sequence or "local"))

    def terraform(self, child_env: Mapping[str, str]) -> "CommandContext":
        """What a Terraform client outside of a run has to know of this command."""
        from cipipe.stages.terraform.root import CommandContext

        return CommandContext(
            top=self.project.repository.root,
            environment_name=self.environment_name,
            env=child_env,
            redactor=self.redactor,
            line=self.say,
            command_options=self.command_options,
            login=self.project.state_login,
        )

    def ledger(self, access: "Access") -> "Ledger":
        """The environment's ledger, read and written with these credentials."""
        from cipipe.ledger import Ledger

        settings = self.project.config.ledger
        config = self.project.config
        bucket = config.expanded(settings.bucket, self.environment_name)
        prefix = config.expanded(settings.prefix, self.environment_name).rstrip("/") + "/"
        return Ledger(
            bucket=access.aws.bucket(bucket),
            prefix=prefix,
            project=config.project.name,
            environment=self.environment_name,
        )
