"""The project that a command works on: configuration, repository, provider, and the environment
that was meant.
"""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cipipe import ci
from cipipe.errors import UsageError
from cipipe.model import Context
from cipipe.tools.git.client import Repository

if TYPE_CHECKING:
    from cipipe.config import Config, StageCheck


class Project(msgspec.Struct, frozen=True):
    """What every use case starts from. `env` is the process's environment, read once by `cli`.

    `config_option` is what the command line has for --config.
    """

    config: "Config"
    config_text: bytes
    config_path: str
    repository: Repository
    provider: ci.Provider
    context: Context
    env: Mapping[str, str]
    config_option: str | None = None

    def command_options(self, *, sandbox: bool) -> tuple[str, ...]:
        """The options that a further command needs to find this configuration, and the sandbox."""
        named = ("--config", self.config_option) if self.config_option is not None else ()
        return (*(("--sandbox",) if sandbox else ()), *named)

    def state_login(self, address: str) -> dict[str, str]:
        """The variables that let this job in to the store of Terraform states at that address.

        Children get no token of the job otherwise; one that somebody put into TF_HTTP_PASSWORD is
        meant for the store.
        """
        own = {
            name: self.env[name]
            for name in ("TF_HTTP_USERNAME", "TF_HTTP_PASSWORD")
            if self.env.get(name)
        }
        return (
            own
            if "TF_HTTP_PASSWORD" in own
            else {**self.provider.state_login(self.env, address), **own}
        )

    def at(self, name: str) -> "Project":
        """The project as it is in one environment: with its stages only, and its values filled in."""
        return msgspec.structs.replace(self, config=self.config.at(name))

    def environment_name(self, wanted: str | None) -> str:
        """The environment that was asked for, else the one whose `deploy_from` matches the ref,
        else the default.
        """
        if wanted is not None:
            self.config.environment(wanted)
            return wanted
        matching = [name for name in self.config.environments if self.may_deploy(name)]
        return matching[0] if matching else self.config.project.default_environment

    def may_deploy(self, name: str) -> bool:
        """Whether this job's ref is one that the environment is deployed from.

        A person who has checked out a tag is on no branch: any tag of that commit counts.
        """
        allowed = self.config.environment(name).deploy_from
        if self.context.ref is None and self.context.provider == "local" and allowed.tags:
            return any(
                _like(tag, pattern) for tag in self.repository.tags for pattern in allowed.tags
            )
        patterns = allowed.tags if self.context.ref_type == "tag" else allowed.branches
        return self.context.ref is not None and any(
            _like(self.context.ref, pattern) for pattern in patterns
        )


def _like(ref: str, pattern: str) -> bool:
    """Whether a ref matches: `*` and `?` are wildcards, and nothing else is, as in the trust
    policies made from it.
    """
    return fnmatchcase(ref, pattern.replace("[", "[[]"))


def load(
    start: Path, env: Mapping[str, str], config_file: Path | None = None, *, look: bool = False
) -> Project:
    """Find the repository around `start` and read its configuration, from disk. Raises UsageError.

    `look`: what it names in the repository has to be there.
    """
    repository = Repository.discover(start.absolute(), ci.without_secrets(env))
    repository.start()
    from cipipe import config  # while git gets ready

    path = (
        Path(os.path.normpath(start.absolute() / config_file))
        if config_file
        else repository.root / config.FILE_NAME
    )
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            "config-missing",
            f"there is no {path.name}",
            hint="Write one at the top of the repository, from the example in docs/configuration.md, or name another with --config.",
            where=str(path),
        ) from error
    except OSError as error:
        raise UsageError(
            "config-unreadable", f"it cannot be read: {error.strerror}", where=str(path)
        ) from error
    name = (
        path.relative_to(repository.root).as_posix()
        if path.is_relative_to(repository.root)
        else path.name
    )
    provider = ci.detect(env)
    context = provider.context(env)
    if context.ref is None and context.provider == "local":
        context = msgspec.structs.replace(context, ref=repository.branch(), ref_type="branch")
    return Project(
        config.load(text, name=name, also=_missing(repository))
        if look
        else config.load(text, name=name),
        text,
        name,
        repository,
        provider,
        context,
        env,
        str(config_file) if config_file else None,
    )


def _missing(repository: Repository) -> "StageCheck":
    from cipipe.pipeline.checks.paths import checker

    return checker(repository)
