"""Workloads in GKE that act as accounts made here, and the buckets that they may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_gcp import projects, serviceaccount, storage

from components.network.ordering import after
from components.workload_identity.workload import service_account, team_namespace
from settings.workload_identity import Bucket, GkeWorkload

APIS = ("iamcredentials.googleapis.com", "storage.googleapis.com")
OLD_VERSIONS_DAYS = 30


@dataclass(kw_only=True)
class GkeWorkloadIdentityArgs:
    """Arguments of GkeWorkloadIdentity."""

    project: str
    region: str
    """Where the buckets are."""

    workloads: tuple[GkeWorkload, ...]

    team_namespaces: pulumi.Input[Mapping[str, Sequence[str]]]
    """Existing namespaces by team; there are some only when the cluster and its workload pool exist."""

    protect: bool
    """Whether buckets are protected from deletion, and kept as long as something is in them."""


class GkeWorkloadIdentity(pulumi.ComponentResource):
    """Service accounts, their bindings, and buckets that those accounts alone may read.

    Source: "Use Anthos Service Mesh egress gateways on GKE clusters". Reference: GKE, "Authenticate to Google Cloud
    APIs from GKE workloads".
    """

    accounts: dict[str, pulumi.Output[str]]
    """E-mail addresses, or principals where bound directly, by <namespace>/<service account>."""

    def __init__(self, name: str, args: GkeWorkloadIdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:workload_identity:GkeWorkloadIdentity", name, None, opts)
        apis = [
            projects.Service(
                f"{name}-{api.removesuffix('.googleapis.com')}",
                project=args.project,
                service=api,
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in APIS
        ]
        project = after(args.project, *apis)
        self.accounts = {
            workload.key: self._workload(
                f"{name}-{workload.namespace}.{workload.service_account}", workload, project, args
            )
            for workload in args.workloads
        }
        self.register_outputs({"accounts": self.accounts})

    def _workload(
        self, name: str, workload: GkeWorkload, project: pulumi.Output[str], args: GkeWorkloadIdentityArgs
    ) -> pulumi.Output[str]:
        """The workload's account, known when it may be used."""
        child = pulumi.ResourceOptions(parent=self)
        namespace = team_namespace(args.team_namespaces, workload.namespace)
        bucket = self._bucket(name, workload.bucket, project, args) if workload.bucket else None
        pool = f"{args.project}.svc.id.goog"
        granted: list[pulumi.Resource] = []
        email: pulumi.Output[str] | None = None
        if workload.account is not None:
            account = serviceaccount.Account(
                f"{name}-account",
                project=project,
                account_id=workload.account,
                display_name=workload.account,
                description=f"Acted as by {workload.key} in GKE",
                opts=child,
            )
            granted.append(
                serviceaccount.IAMMember(
                    f"{name}-binding",
                    service_account_id=account.name,
                    role="roles/iam.workloadIdentityUser",
                    member=pulumi.Output.concat(f"serviceAccount:{pool}[", namespace, f"/{workload.service_account}]"),
                    opts=child,
                )
            )
            email = account.email
            member = pulumi.Output.concat("serviceAccount:", account.email)
        else:
            assert bucket is not None
            # The project's number: the bucket tells it.
            number = bucket.project_number.apply(lambda value: str(int(value)))
            member = pulumi.Output.concat(
                "principal://iam.googleapis.com/projects/",
                number,
                f"/locations/global/workloadIdentityPools/{pool}/subject/ns/",
                namespace,
                f"/sa/{workload.service_account}",
            )
        if bucket is not None:
            granted.append(
                storage.BucketIAMMember(
                    f"{name}-viewer", bucket=bucket.name, role="roles/storage.objectViewer", member=member, opts=child
                )
            )
        bound = service_account(
            f"{name}-service-account",
            namespace=namespace,
            name=workload.service_account,
            account=email,
            parent=self,
        )
        return after(member if email is None else email, bound, *granted)

    def _bucket(
        self, name: str, bucket: Bucket, project: pulumi.Output[str], args: GkeWorkloadIdentityArgs
    ) -> storage.Bucket:
        made = storage.Bucket(
            f"{name}-bucket",
            project=project,
            name=bucket.name,
            location=args.region,
            # IAM alone decides, and nothing can be made public.
            uniform_bucket_level_access=True,
            public_access_prevention="enforced",
            versioning=storage.BucketVersioningArgs(enabled=True),
            lifecycle_rules=[
                storage.BucketLifecycleRuleArgs(
                    action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
                    condition=storage.BucketLifecycleRuleConditionArgs(
                        days_since_noncurrent_time=OLD_VERSIONS_DAYS, with_state="ARCHIVED"
                    ),
                )
            ],
            force_destroy=not args.protect,
            opts=pulumi.ResourceOptions(parent=self, protect=args.protect),
        )
        for key, text in bucket.objects.items():
            storage.BucketObject(
                f"{name}-object-{key}",
                bucket=made.name,
                name=key,
                content=text,
                content_type="text/plain",
                opts=pulumi.ResourceOptions(parent=self),
            )
        return made
