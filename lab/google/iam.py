"""The lab's IAM: accounts, roles and access tokens. The data are in project.yaml."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parent / "project.yaml"
LIFETIME = 3600
"""Seconds that an access token is good for."""

Policy = Mapping[str, frozenset[str]]
"""Role -> members, such as serviceAccount:<e-mail>."""

PERMISSIONS = {
    "roles/iam.workloadIdentityUser": frozenset({"iam.serviceAccounts.getAccessToken"}),
    "roles/storage.objectViewer": frozenset({"storage.objects.get", "storage.objects.list"}),
}
"""What the roles allow, as far as anything here asks for it."""


@dataclass(frozen=True)
class Bucket:
    """A storage bucket."""

    policy: Policy
    objects: Mapping[str, str]
    """Name -> text."""


@dataclass(frozen=True)
class Project:
    """A Google Cloud project."""

    id: str
    number: str
    accounts: Mapping[str, Policy]
    """E-mail address -> who may act as the account."""
    buckets: Mapping[str, Bucket]

    @property
    def pool(self) -> str:
        """The project's workload identity pool."""
        return f"{self.id}.svc.id.goog"


def load(path: Path = PROJECT) -> Project:
    """The project in a file. Raises KeyError for a role that is not among PERMISSIONS, or a missing key."""
    content = yaml.safe_load(path.read_text())
    name = content["project"]
    return Project(
        id=name,
        number=content["number"],
        accounts={
            f"{account}@{name}.iam.gserviceaccount.com": _policy(policy)
            for account, policy in content["serviceAccounts"].items()
        },
        buckets={bucket: Bucket(_policy(it["policy"]), it["objects"]) for bucket, it in content["buckets"].items()},
    )


def allows(policy: Policy, account: str, permission: str) -> bool:
    """Whether a policy gives an account a permission."""
    member = f"serviceAccount:{account}"
    return any(member in members and permission in PERMISSIONS[role] for role, members in policy.items())


@dataclass(frozen=True)
class Tokens:
    """Access tokens: whose they are and until when, signed. Those of an earlier process are worth nothing."""

    key: bytes
    clock: Callable[[], float] = time.time

    def issue(self, account: str) -> str:
        claim = base64.urlsafe_b64encode(f"{int(self.clock()) + LIFETIME} {account}".encode()).decode()
        return f"ya29.{claim}.{self._signature(claim)}"

    def account(self, token: str) -> str | None:
        """Whose a token is; None if it was not issued here, or is too old."""
        start, _, rest = token.partition(".")
        claim, _, signature = rest.partition(".")
        if start != "ya29" or not hmac.compare_digest(signature.encode(), self._signature(claim).encode()):
            return None
        expiry, _, account = base64.urlsafe_b64decode(claim).decode().partition(" ")
        return account if self.clock() < int(expiry) else None

    def _signature(self, claim: str) -> str:
        return hmac.new(self.key, claim.encode(), hashlib.sha256).hexdigest()


def _policy(content: Mapping[str, Any]) -> Policy:
    for role in content:
        PERMISSIONS[role]
    return {role: frozenset(members) for role, members in content.items()}
