"""What permissions depend on and moto knows: roles and their policies, tags,
generated ids.
"""

from collections.abc import Mapping
from typing import Any

from cipipe.partitions import partition_of
from cipipe.sandbox.aws.backend import current_document
from cipipe.sandbox.aws.iam.evaluation import Permissions


class MotoResources:
    """moto's tables, read directly."""

    def __init__(self) -> None:
        # moto takes a second to import, so nothing imports it before a
        # sandbox really starts.
        from moto.athena.models import athena_backends
        from moto.ec2.models import ec2_backends
        from moto.iam.models import iam_backends
        from moto.kms.models import kms_backends
        from moto.s3.models import s3_backends
        from moto.secretsmanager.models import secretsmanager_backends

        self._athena = athena_backends
        self._ec2 = ec2_backends
        self._iam = iam_backends
        self._kms = kms_backends
        self._s3 = s3_backends
        self._secrets = secretsmanager_backends

    def permissions(self, role_arn: str, session: tuple[str, ...]) -> Permissions | None:
        """What a role's session may do; None if the role is gone."""
        partition, account = role_arn.split(":")[1], role_arn.split(":")[4]
        iam = self._iam[account][partition]
        role = next((one for one in list(iam.roles.values()) if one.arn == role_arn), None)
        if role is None:
            return None
        attached = [current_document(policy) for policy in list(role.managed_policies.values())]
        policies = iam.managed_policies
        boundary = role.permissions_boundary_arn or None
        return Permissions(
            identity=(*attached, *list(role.policies.values())),
            # A boundary that does not exist allows nothing.
            boundary=None if boundary is None else current_document(policies.get(boundary)),
            session=session,
        )

    def role_arn(self, account: str, name: str) -> str | None:
        role = self._role(account, name)
        return None if role is None else str(role.arn)

    def boundary_of(self, account: str, name: str) -> str | None:
        role = self._role(account, name)
        return None if role is None else role.permissions_boundary_arn

    def _role(self, account: str, name: str) -> Any | None:
        partitions = list(self._iam[account].values())
        roles = [role for one in partitions for role in list(one.roles.values())]
        return next((role for role in roles if role.name == name), None)

    def ec2_tags(self, account: str, region: str, identifier: str) -> Mapping[str, str]:
        return dict(self._ec2[account][region].tags.get(identifier, {}))

    def ec2_association(self, account: str, region: str, identifier: str) -> tuple[str, ...]:
        """The ids of the resources that an association holds together."""
        ec2 = self._ec2[account][region]
        for table in list(ec2.route_tables.values()):
            if identifier in table.all_associations_ids:
                subnet = [
                    one.get("SubnetId")
                    for one in table.associations
                    if one.get("RouteTableAssociationId") == identifier
                ]
                return (str(table.id), *(str(one) for one in subnet if one))
        for address in list(ec2.addresses):
            if address.association_id == identifier:
                return (str(address.allocation_id),)
        return ()

    def secret_arn(self, account: str, region: str, name: str) -> str | None:
        found = self._secrets[account][region].secrets.get(name)
        return None if found is None else str(found.arn)

    def query_workgroup(self, account: str, region: str, identifier: str) -> str | None:
        found = self._athena[account][region].executions.get(identifier)
        group = None if found is None else found.workgroup
        return None if group is None else str(group.name)

    def key_of(self, account: str, region: str, name: str) -> tuple[str, Mapping[str, str]]:
        """The ARN and the tags of a key, by id, ARN or alias."""
        kms = self._kms[account][region]
        try:
            key = kms.keys[kms.any_id_to_key_id(name)]
        except KeyError:
            return f"arn:{partition_of(region)}:kms:{region}:{account}:key/{name}", {}
        return str(key.arn), kms.tagger.get_tag_dict_for_resource(key.id)

    def has_object(self, account: str, bucket: str, key: str, version: str | None) -> bool:
        """True also where there is no such bucket: then nothing depends on the object."""
        backends = [one for one in list(self._s3[account].values()) if bucket in one.buckets]
        if not backends:
            return True
        return backends[0].get_object(bucket, key, version) is not None
