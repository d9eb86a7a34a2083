"""Settings of the layer `workload_identity`: workloads that act as accounts of the cloud."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from settings.model import DnsLabel, Model, Problem, matching

BucketName = Annotated[
    str, matching(r"[a-z0-9][-_.a-z0-9]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits, '-', '_' and '.'")
]


class Bucket(Model):
    """A storage bucket that the account may read (objectViewer)."""

    name: BucketName
    objects: dict[str, str] = {}
    """Objects that are put into it: name -> text."""


class Workload(Model):
    """A Kubernetes service account, made in a team's namespace, and whom it acts as."""

    namespace: DnsLabel
    """A namespace of a team."""

    service_account: DnsLabel
    bucket: Bucket | None = None

    @property
    def key(self) -> str:
        """What tells it from every other workload of the cluster."""
        return f"{self.namespace}/{self.service_account}"


class GkeWorkload(Workload):
    """Bound to an account that is made here, or allowed itself."""

    binding: Literal["account", "direct"] = "account"
    """account: the workload acts as the Google service account. direct: roles are granted to the workload itself, no
    account is made."""

    account: (
        Annotated[
            str, matching(r"[a-z][-a-z0-9]{4,28}[a-z0-9]", "an account id: 6 to 30 lower-case letters, digits and '-'")
        ]
        | None
    ) = None
    """Id of the Google service account, the part before '@'."""

    def problems(self) -> Iterator[Problem]:
        if self.binding == "account" and self.account is None:
            yield Problem(key="account", message="is missing; give the account's id, or bind direct")
        if self.binding == "direct" and self.account is not None:
            yield Problem(key="account", message="has no use: a direct binding makes no account; take it out")
        if self.binding == "direct" and self.bucket is None:
            yield Problem(key="bucket", message="is missing; without it a direct binding allows nothing")


class ExistingWorkload(Workload):
    """Bound to an account that exists, as binding, bucket and objects do."""

    account: Annotated[str, matching(r"[^@\s]+@[^@\s]+", "an account's e-mail address")]


class GkeWorkloadIdentity(Model):
    """Accounts, bindings and buckets in Google Cloud, made here."""

    kind: Literal["gke"]
    workloads: Annotated[tuple[GkeWorkload, ...], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        yield from _twice(self.workloads)
        made: set[tuple[str, str]] = set()
        for index, workload in enumerate(self.workloads):
            yield from (problem.below(f"workloads[{index}]") for problem in workload.problems())
            for key, value in (
                ("account", workload.account),
                ("bucket.name", workload.bucket and workload.bucket.name),
            ):
                if value and (key, value) in made:
                    yield Problem(
                        key=f"workloads[{index}].{key}",
                        message=f"'{value}' is made for another workload already; each needs its own",
                    )
                made.add((key, value or ""))


class ExistingWorkloadIdentity(Model):
    """Accounts, bindings and buckets that are made elsewhere; here only the Kubernetes service accounts."""

    kind: Literal["existing"]
    workloads: Annotated[tuple[ExistingWorkload, ...], Field(min_length=1)]

    def problems(self) -> Iterator[Problem]:
        yield from _twice(self.workloads)


WorkloadIdentitySettings = Annotated[GkeWorkloadIdentity | ExistingWorkloadIdentity, Field(discriminator="kind")]


def _twice(workloads: tuple[Workload, ...]) -> Iterator[Problem]:
    seen = set()
    for index, workload in enumerate(workloads):
        if workload.key in seen:
            yield Problem(
                key=f"workloads[{index}].serviceAccount",
                message=f"'{workload.key}' is there twice; it acts as one account",
            )
        seen.add(workload.key)
