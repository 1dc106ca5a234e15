"""moto: its WSGI application, and what is read directly from its tables.

One moto serves every account. The front tells it with each request which
account the request's access key belongs to.
"""

import contextlib
import json
import logging
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from cipipe.sandbox.aws.services import only_served
from cipipe.sandbox.state import admin_account
from cipipe.sandbox.web import WSGIApplication, WSGIEnvironment


class MotoBackend:
    """moto in this process."""

    def __init__(self, account_id: str, admin_secret: str) -> None:
        # moto takes a second to import, so nothing imports it before a
        # sandbox really starts.
        from moto.ecr.models import ecr_backends
        from moto.iam.models import get_account_id_from, iam_backends
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            MotoRequestHandler,
            create_backend_app,
        )
        from moto.sts.models import sts_backends

        logging.getLogger("werkzeug").setLevel(logging.ERROR)

        # The account of requests that are signed with no key of a known
        # account.
        self.account_id = account_id

        # The secret key of every account's administrator.
        self._admin_secret = admin_secret
        self.app: WSGIApplication = DomainDispatcherApplication(only_served(create_backend_app))
        self.handler: type[Any] = MotoRequestHandler
        self._ecr = ecr_backends
        self._iam = iam_backends
        self._sts = sts_backends
        self._account_of = get_account_id_from
        self._turn = threading.RLock()

    @contextlib.contextmanager
    def turn(self, environ: WSGIEnvironment) -> Iterator[None]:
        """While moto answers a request.

        It changes its tables without locks: of two requests at once, one
        could fail with a 500 although its change was made, and its repetition
        then finds that the resource already exists. Objects do not wait for each
        other: their bodies take time to arrive.
        """
        if "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):
            yield
            return
        with self._turn:
            yield

    def account_of(self, access_key_id: str) -> str:
        """The account that an access key belongs to."""
        if account := admin_account(access_key_id):
            return account
        if self._user_key(access_key_id):
            return str(self._account_of(access_key_id))
        return self.account_id

    def secret_of(self, access_key_id: str) -> str | None:
        """The secret key of an administrator or an IAM user; None if the
        sandbox issued no such key.
        """
        if admin_account(access_key_id):
            return self._admin_secret
        key = self._user_key(access_key_id)
        return str(key.secret_access_key) if key is not None and key.status == "Active" else None

    def _user_key(self, access_key_id: str) -> Any | None:
        # Copies: other threads add accounts while this one looks through
        # them.
        partitions = [
            partition for account in list(self._iam.values()) for partition in account.values()
        ]
        found = (partition.access_keys.get(access_key_id) for partition in partitions)
        return next((key for key in found if key is not None), None)

    def role(self, arn: str, account_id: str, partition: str = "aws") -> Any | None:
        """moto's role with that ARN."""
        roles = self._iam[account_id][partition].get_roles()
        return next((role for role in roles if role.arn == arn), None)

    def trust_policy(self, role: Any) -> Any:
        return json.loads(role.assume_role_policy_document)

    def client_ids(
        self, provider_arn: str, account_id: str, partition: str = "aws"
    ) -> list[str] | None:
        """The audiences that an OIDC provider accepts; None if the account has no such provider."""
        provider = self._iam[account_id][partition].open_id_providers.get(provider_arn)
        return None if provider is None else list(provider.client_id_list)

    def documents(
        self, arns: Iterable[str], account_id: str, partition: str = "aws"
    ) -> tuple[str, ...]:
        """The documents of managed policies; one that does not exist allows nothing."""
        policies = self._iam[account_id][partition].managed_policies
        return tuple(current_document(policies.get(arn)) for arn in arns)

    def assume(
        self,
        *,
        role_arn: str,
        account_id: str,
        partition: str,
        region: str,
        session_name: str,
        duration: int,
    ) -> Any:
        """moto's new session of a role: keys, `expiration`, `arn` and `user_id`."""
        return self._sts[account_id][partition].assume_role_with_web_identity(
            region_name=region,
            role_session_name=session_name,
            role_arn=role_arn,
            policy=None,
            duration=duration,
            external_id=None,
        )

    def keeps_tag(self, repository: str, tag: str) -> bool:
        """Whether a repository of that name, in any account and region, forbids moving a tag."""
        regions = [region for account in list(self._ecr.values()) for region in account.values()]
        found = [
            backend.repositories[repository]
            for backend in regions
            if repository in backend.repositories
        ]
        return any(_keeps_tag(one, tag) for one in found)

    def has_repository(self, name: str, account_id: str, region: str) -> bool:
        return name in self._ecr[account_id][region].repositories


def current_document(policy: Any | None) -> str:
    """A managed policy's default version; a policy that allows nothing where there is none."""
    if policy is None:
        return '{"Version": "2012-10-17", "Statement": []}'
    found = [one for one in policy.versions if one.version_id == policy.default_version_id]
    return str(found[0].document)


def _keeps_tag(repository: Any, tag: str) -> bool:
    # A tag that an exclusion filter matches follows the opposite rule. `*`
    # in a filter is any number of characters.
    filters = repository.image_tag_mutability_exclusion_filters or ()
    patterns = [".*".join(map(re.escape, one["filter"].split("*"))) for one in filters]
    excluded = any(re.fullmatch(pattern, tag) for pattern in patterns)
    return bool(repository.is_tag_immutable()) is not excluded
