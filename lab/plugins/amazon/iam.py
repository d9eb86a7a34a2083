"""IAM, KMS and CloudWatch Logs: roles, policies, identity providers, keys, log groups."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.amazon.common import arn, find, listed, refused, statements
from lab.plugins.amazon.tokens import (
    ALIAS,
    ATTACHMENT,
    CLUSTER,
    IDENTITY_PROVIDER,
    KEY,
    LOG_GROUP,
    POLICY,
    ROLE,
    ROLE_POLICY,
)
from lab.plugins.base import Problem
from lab.plugins.cloud import Kind
from lab.plugins.store import Record, World

MANAGED = "arn:aws:iam::aws:policy/"
MANAGED_POLICIES = {
    f"{MANAGED}{name}"
    for name in (
        "AmazonEC2ContainerRegistryPullOnly",
        "AmazonEC2ContainerRegistryReadOnly",
        "AmazonEKSClusterPolicy",
        "AmazonEKSVPCResourceController",
        "AmazonEKSWorkerNodeMinimalPolicy",
        "AmazonEKSWorkerNodePolicy",
        "AmazonEKS_CNI_Policy",
        "AmazonSSMManagedInstanceCore",
        "CloudWatchAgentServerPolicy",
        "service-role/AmazonEBSCSIDriverPolicy",
    )
}
"""AWS's own policies that the simulation knows."""

SIZES = {"assumeRolePolicy": 2048, "policy": 6144}
"""The most characters, without white space, of a trust policy and of a managed policy."""
INLINE_SIZE = 10240
POLICIES_PER_ROLE = 10


def attached(world: World, role: Record) -> set[str]:
    """The ARNs of the policies that a role has."""
    by_attachment = {one.inputs["policyArn"] for one in world.of(ATTACHMENT) if one.inputs["role"] == role.id}
    return by_attachment | set(listed(role.inputs.get("managedPolicyArns")))


def document_problems(path: str, text: Any, *, identity: bool) -> Iterator[Problem]:
    """What is wrong with a policy document; of an identity, or one that says who may (a trust or a key policy)."""
    try:
        content = json.loads(text)
    except (TypeError, ValueError):
        yield path, "contains an invalid JSON policy"
        return
    found = list(statements(text))
    if not found:
        yield path, "has no Statement"
    if isinstance(content, dict) and content.get("Version") not in ("2012-10-17", "2008-10-17"):
        yield path, "has no Version; it is 2012-10-17"
    needed = ("Action", "Resource") if identity else ("Action", "Principal")
    for index, statement in enumerate(found):
        if statement.get("Effect") not in ("Allow", "Deny"):
            yield path, f"has statement {index} without an Effect of Allow or Deny"
        for key in needed:
            if not statement.get(key) and not statement.get(f"Not{key}"):
                yield path, f"has statement {index} without {key}"
        for action in listed(statement.get("Action")):
            if not re.fullmatch(r"\*|[a-z0-9-]+:[A-Za-z0-9*?]+", str(action)):
                yield path, f"has the action {action!r} in statement {index}; actions are service:Action"
        for resource in listed(statement.get("Resource")):
            if not re.fullmatch(r"\*|arn:[^:]*:[^:]*:[^:]*:[^:]*:.+", str(resource)):
                yield path, f"has the resource {resource!r} in statement {index}; resources are * or ARNs"


def invalid(type_: str, inputs: Mapping[str, Any]) -> Iterator[Problem]:
    """What the plugin or IAM finds wrong with the documents of a type here."""
    paths = {
        ROLE: {"assumeRolePolicy": False},
        POLICY: {"policy": True},
        ROLE_POLICY: {"policy": True},
        KEY: {"policy": False},
    }.get(type_, {})
    for path, identity in paths.items():
        text = inputs.get(path)
        if isinstance(text, str) and text != UNKNOWN:
            yield from document_problems(path, text, identity=identity)
            limit = INLINE_SIZE if type_ == ROLE_POLICY else 32768 if type_ == KEY else SIZES[path]
            if (size := len(re.sub(r"\s", "", text))) > limit:
                yield path, f"has {size} characters without white space; IAM takes {limit}"


def _attachment(world: World, record: Record, operation: str) -> None:
    if operation == "create":
        role = find(world, ROLE, record.inputs["role"])
        if len(attached(world, role)) >= POLICIES_PER_ROLE:
            raise refused("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {POLICIES_PER_ROLE}")


def _role(world: World, record: Record, operation: str) -> None:
    if operation != "delete":
        for policy in listed(record.inputs.get("managedPolicyArns")):
            if policy not in MANAGED_POLICIES and not any(one.id == policy for one in world.of(POLICY)):
                raise refused("NoSuchEntity", f"Policy {policy} does not exist or is not attachable.")


def _log_group(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        if record.outputs.get("deletionProtectionEnabled"):
            raise refused("ValidationException", f"Deletion protection is enabled for {record.id}")
        # Who still writes logs makes the group anew; nobody deletes that one.
        for cluster in list(world.of(CLUSTER)):
            if record.id == control_plane_logs(cluster) and cluster.inputs.get("enabledClusterLogTypes"):
                again = Record(LOG_GROUP, f"{record.id} (made anew by EKS)", {"name": record.id}, {})
                world.records[again.key] = again
        return
    if key := record.inputs.get("kmsKeyId"):
        service = f"logs.{record.outputs['region']}.amazonaws.com"
        if service not in str(find(world, KEY, key).inputs.get("policy", "")):
            raise refused(
                "AccessDeniedException",
                f"The specified KMS key does not exist or is not allowed to be used with LogGroup "
                f"'{record.outputs['arn']}' (its policy does not name {service})",
            )


def control_plane_logs(cluster: Record) -> str:
    """The name of the log group that a cluster's control plane writes to."""
    return f"/aws/eks/{cluster.id}/cluster"


def _words(noun: str, missing: str, in_use: str) -> Mapping[str, str]:
    return {
        "exists": f"api error EntityAlreadyExists: {noun} with name {{name}} already exists.",
        "missing": f"api error NoSuchEntity: {missing}{{other}}",
        "in_use": f"api error DeleteConflict: {in_use} ('{{other}}' uses it)",
        "quota": f"api error LimitExceeded: Cannot exceed quota for {noun}sPerAccount",
    }


GLOBAL = "arn:aws:iam::{account}:"

KINDS: Mapping[str, Kind] = {
    ROLE: Kind(
        id="{name}",
        replaced_by=("namePrefix", "path"),
        defaults={"path": "/", "maxSessionDuration": 3600.0, "forceDetachPolicies": False},
        computed={"arn": f"{GLOBAL}role{{path}}{{name}}"},
        rule=_role,
        errors=_words(
            "Role",
            "The role with name {id} cannot be found.",
            "Cannot delete entity, must detach all policies first.",
        ),
    ),
    POLICY: Kind(
        id=lambda values: f"arn:aws:iam::{values['account']}:policy{values.get('path', '/')}{values['name']}",
        replaced_by=("namePrefix", "path", "description"),
        defaults={"path": "/"},
        computed={"arn": "{id}"},
        errors=_words(
            "A policy",
            "Policy {id} does not exist or is not attachable.",
            "Cannot delete a policy attached to entities.",
        ),
    ),
    ROLE_POLICY: Kind(
        id="{role}:{name}",
        replaced_by=("role", "namePrefix"),
        holds={"role": ROLE},
    ),
    ATTACHMENT: Kind(
        id="{role}-{random}",
        unique="{role}|{policyArn}",
        replaced_by=("*",),
        holds={"role": ROLE, "policyArn": POLICY},
        rule=_attachment,
        shared=True,
    ),
    IDENTITY_PROVIDER: Kind(
        id=lambda values: (
            f"arn:aws:iam::{values['account']}:oidc-provider/{str(values['url']).removeprefix('https://')}"
        ),
        replaced_by=("url",),
        computed={"arn": "{id}", "thumbprintLists": ["9e99a48a9960b14926bb7f3b02e22da2b0ab7280"]},
        errors={
            "exists": "api error EntityAlreadyExists: Provider with url {url} already exists.",
            "missing": "api error NoSuchEntity: OpenIDConnect Provider not found for arn {id}{other}",
        },
    ),
    KEY: Kind(
        id=lambda values: _uuid(values["random"]),
        replaced_by=("customKeyStoreId", "customerMasterKeySpec", "keyUsage", "multiRegion"),
        defaults={"keyUsage": "ENCRYPT_DECRYPT", "customerMasterKeySpec": "SYMMETRIC_DEFAULT", "isEnabled": True},
        computed={"arn": arn("kms", "key/{id}"), "keyId": "{id}", "rotationPeriodInDays": 365.0},
        errors={"missing": "api error NotFoundException: Key '{id}' does not exist{other}"},
    ),
    ALIAS: Kind(
        id="{name}",
        replaced_by=("namePrefix",),
        holds={"targetKeyId": KEY},
        computed={
            "arn": arn("kms", "{name}"),
            "targetKeyArn": lambda values: arn("kms", f"key/{values['targetKeyId'].rpartition('/')[2]}").format_map(
                values
            ),
        },
        errors={"exists": "api error AlreadyExistsException: An alias with the name {name} already exists"},
    ),
    LOG_GROUP: Kind(
        id="{name}",
        replaced_by=("namePrefix", "logGroupClass"),
        holds={"kmsKeyId": KEY},
        computed={
            "arn": arn("logs", "log-group:{name}"),
            "logGroupClass": "STANDARD",
            "deletionProtectionEnabled": False,
        },
        rule=_log_group,
        errors={
            "exists": "api error ResourceAlreadyExistsException: The specified log group already exists ({name})",
            "missing": "api error ResourceNotFoundException: The specified log group does not exist ({id}){other}",
        },
    ),
}


def _uuid(digits: str) -> str:
    whole = (digits * 2)[:32]
    return "-".join((whole[:8], whole[8:12], f"4{whole[13:16]}", f"8{whole[17:20]}", whole[20:]))
