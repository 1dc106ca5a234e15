"""The project that a command works on: configuration, repository, provider, job."""

import os
from collections.abc import Callable, Mapping
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


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What every use case starts from."""

    config: "Config"
    # The configuration as it is on disk, and its path in the repository.
    config_text: bytes
    config_path: str
    repository: Repository
    provider: ci.Provider
    context: Context
    # The process's environment, read once by `cli`.
    env: Mapping[str, str]
    # What the command line has for --config.
    config_option: str | None = None

    def command_options(self, *, sandbox: bool) -> tuple[str, ...]:
        """The options that a further command needs to find this configuration, and the sandbox."""
        options = ["--sandbox"] if sandbox else []
        if self.config_option is not None:
            options += ["--config", self.config_option]
        return tuple(options)

    def state_login(self, address: str) -> dict[str, str]:
        """The variables that authenticate this job at the store of
        Terraform states there.

        Children get no token of the job otherwise. What somebody put into
        TF_HTTP_PASSWORD is meant for the store and comes first.
        """
        names = ("TF_HTTP_USERNAME", "TF_HTTP_PASSWORD")
        own = {name: self.env[name] for name in names if self.env.get(name)}
        if "TF_HTTP_PASSWORD" in own:
            return own
        return {**self.provider.state_login(self.env, address), **own}

    def at(self, name: str) -> "Project":
        """The project as it is in one environment: its stages only, with their values filled in."""
        return msgspec.structs.replace(self, config=self.config.at(name))

    def environment_name(self, wanted: str | None) -> str:
        """The wanted environment, else the one that this ref is deployed to, else the default."""
        if wanted is not None:
            self.config.environment(wanted)
            return wanted
        matching = [name for name in self.config.environments if self.may_deploy(name)]
        return matching[0] if matching else self.config.project.default_environment

    def may_deploy(self, name: str) -> bool:
        """Whether this job's ref is one that the environment is deployed from."""
        allowed = self.config.environment(name).deploy_from
        ref = self.context.ref
        # A person who has checked out a tag is on no branch: any tag of
        # that commit counts.
        if ref is None and self.context.provider == "local" and allowed.tags:
            tags = self.repository.tags
            return any(_like(tag, pattern) for tag in tags for pattern in allowed.tags)
        patterns = allowed.tags if self.context.ref_type == "tag" else allowed.branches
        return ref is not None and any(_like(ref, pattern) for pattern in patterns)


def _like(ref: str, pattern: str) -> bool:
    """Whether a ref matches a pattern with `*` and `?`.

    Nothing else is a wildcard, as in the trust policies that are made from
    the pattern.
    """
    return fnmatchcase(ref, pattern.replace("[", "[[]"))


def load(
    start: Path,
    env: Mapping[str, str],
    config_file: Path | None = None,
    *,
    also: "Callable[[Repository], StageCheck] | None" = None,
) -> Project:
    """Find the repository around `start` and read its configuration from
    disk. Raises UsageError.

    `also` makes a further check of every stage, such as that its files
    exist.
    """
    repository = Repository.discover(start.absolute(), ci.without_secrets(env))
    repository.start()
    from cipipe import config  # while git starts

    path = repository.root / config.FILE_NAME
    if config_file is not None:
        path = Path(os.path.normpath(start.absolute() / config_file))
    text = _read(path)
    name = path.name
    if path.is_relative_to(repository.root):
        name = path.relative_to(repository.root).as_posix()

    provider = ci.detect(env)
    context = provider.context(env)
    if context.ref is None and context.provider == "local":
        context = msgspec.structs.replace(context, ref=repository.branch(), ref_type="branch")
    if also is not None:
        loaded = config.load(text, name=name, also=also(repository))
    else:
        loaded = config.load(text, name=name)
    return Project(
        config=loaded,
        config_text=text,
        config_path=name,
        repository=repository,
        provider=provider,
        context=context,
        env=env,
        config_option=str(config_file) if config_file else None,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UsageError(
            "config-missing",
            f"there is no {path.name}",
            hint="Write one at the top of the repository, from the example in "
            "docs/configuration.md, or name another one with --config.",
            where=str(path),
        ) from error
    except OSError as error:
        raise UsageError(
            "config-unreadable", f"it cannot be read: {error.strerror}", where=str(path)
        ) from error
