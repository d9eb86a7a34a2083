"""Google's managed control plane of a fleet, and what is mesh-wide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import yaml
from pulumi_gcp import gkehub, projects
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.network.ordering import after
from settings.mesh import ManagedMesh as ManagedMeshSettings
from settings.network import GOOGLE_APIS, METADATA_SERVER

FEATURE = "servicemesh"
APIS = ("gkehub.googleapis.com", "mesh.googleapis.com")
REVISIONS = {"rapid": "asm-managed-rapid", "regular": "asm-managed", "stable": "asm-managed-stable"}
"""The control plane's revision by channel; its mesh configuration is the ConfigMap istio-<revision>."""

CONTROL_PLANE_CIDRS = (*(str(cidr) for cidr in GOOGLE_APIS.values()), str(METADATA_SERVER))
"""Control plane and CA are Google APIs; proxies prove to them who they are with tokens of the metadata server."""

PROVISIONING_SECONDS = 1800
"""Google takes about ten minutes."""


@dataclass(kw_only=True)
class ManagedMeshArgs:
    """Arguments of ManagedMesh."""

    project: str
    region: str
    """Where the cluster's membership of the fleet is kept."""

    cluster: pulumi.Input[str]
    """The cluster's name."""

    location: pulumi.Input[str]
    """Its region or zone."""

    mesh: ManagedMeshSettings


class ManagedMesh(pulumi.ComponentResource):
    """The cluster's membership of the fleet, the managed control plane, STRICT mutual TLS and REGISTRY_ONLY.

    The mesh configuration is there before the control plane, which then begins with it. Enabling takes minutes: a Job
    in the cluster waits until the control plane says that it is reconciled, for Istio's custom resources exist only
    then. The provider for Google Cloud and the one for the cluster are both needed.
    References: Cloud Service Mesh, "Provision managed Cloud Service Mesh", "Request proxy logs".
    """

    namespace: pulumi.Output[str]
    revision_tag: pulumi.Output[str]
    """Known only when the control plane is ready: what is labelled with it comes after its webhooks."""

    trust_domain: pulumi.Output[str]
    control_plane_cidrs: pulumi.Output[list[str]]

    def __init__(self, name: str, args: ManagedMeshArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:mesh:ManagedMesh", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        mesh, revision = args.mesh, REVISIONS[args.mesh.channel]

        apis = [
            projects.Service(
                f"{name}-{api.removesuffix('.googleapis.com')}",
                project=args.project,
                service=api,
                disable_on_destroy=False,
                opts=child,
            )
            for api in APIS
        ]
        project = after(args.project, *apis)
        cluster = pulumi.Output.concat(
            "projects/", args.project, "/locations/", args.location, "/clusters/", args.cluster
        )
        membership = gkehub.Membership(
            f"{name}-membership",
            project=project,
            location=args.region,
            membership_id=args.cluster,
            endpoint=gkehub.MembershipEndpointArgs(
                gke_cluster=gkehub.MembershipEndpointGkeClusterArgs(
                    resource_link=pulumi.Output.concat("//container.googleapis.com/", cluster)
                )
            ),
            authority=gkehub.MembershipAuthorityArgs(
                issuer=pulumi.Output.concat("https://container.googleapis.com/v1/", cluster)
            ),
            opts=child,
        )
        feature: pulumi.Input[str] = FEATURE
        if mesh.fleet_feature == "create":
            feature = gkehub.Feature(
                f"{name}-feature", project=project, location="global", name=FEATURE, opts=child
            ).name

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace", metadata=ObjectMetaArgs(name=mesh.namespace), opts=child
        ).metadata.name
        config = kubernetes.core.v1.ConfigMap(
            f"{name}-config",
            metadata=ObjectMetaArgs(name=f"istio-{revision}", namespace=namespace),
            data={"mesh": yaml.safe_dump({"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}})},
            opts=child,
        )
        enabled = gkehub.FeatureMembership(
            f"{name}-enabled",
            project=project,
            location="global",
            feature=feature,
            membership=membership.membership_id,
            membership_location=membership.location,
            mesh=gkehub.FeatureMembershipMeshArgs(management="MANAGEMENT_AUTOMATIC"),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[config]),
        )
        ready = self._wait(name, namespace, mesh, enabled)

        def root(
            suffix: str, api_version: str, kind: str, spec: dict[str, Any]
        ) -> kubernetes.apiextensions.CustomResource:
            return kubernetes.apiextensions.CustomResource(
                f"{name}-{suffix}",
                api_version=api_version,
                kind=kind,
                metadata=ObjectMetaArgs(name="default", namespace=namespace),
                spec=spec,
                opts=pulumi.ResourceOptions(parent=self, depends_on=[ready]),
            )

        strict = root("strict", "security.istio.io/v1", "PeerAuthentication", {"mtls": {"mode": "STRICT"}})
        # Its format is fixed. Google's own log of the same requests would be a second bill.
        logs = root(
            "access-log",
            "telemetry.istio.io/v1",
            "Telemetry",
            {
                "accessLogging": [
                    {"providers": [{"name": "envoy"}]},
                    {"providers": [{"name": "stackdriver"}], "disabled": True},
                ]
            },
        )

        self.namespace = namespace
        self.revision_tag = pulumi.Output.all(ready.status, strict.id, logs.id).apply(lambda _: revision)
        self.trust_domain = pulumi.Output.from_input(f"{args.project}.svc.id.goog")
        self.control_plane_cidrs = pulumi.Output.from_input(list(CONTROL_PLANE_CIDRS))
        self.register_outputs(
            {
                "namespace": self.namespace,
                "revisionTag": self.revision_tag,
                "trustDomain": self.trust_domain,
                "controlPlaneCidrs": self.control_plane_cidrs,
            }
        )

    def _wait(
        self, name: str, namespace: pulumi.Output[str], mesh: ManagedMeshSettings, enabled: pulumi.Resource
    ) -> kubernetes.batch.v1.Job:
        """A Job that has ended when the control plane is reconciled; Pulumi waits for it."""
        child, revision = pulumi.ResourceOptions(parent=self), REVISIONS[mesh.channel]
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-wait-account", metadata=ObjectMetaArgs(name="meshgate-wait", namespace=namespace), opts=child
        )
        role = kubernetes.rbac.v1.ClusterRole(
            f"{name}-wait-role",
            metadata=ObjectMetaArgs(name="meshgate-wait"),
            rules=[
                kubernetes.rbac.v1.PolicyRuleArgs(api_groups=[group], resources=[kinds], verbs=["get", "list", "watch"])
                for group, kinds in (
                    ("apiextensions.k8s.io", "customresourcedefinitions"),
                    ("mesh.cloud.google.com", "controlplanerevisions"),
                )
            ],
            opts=child,
        )
        binding = kubernetes.rbac.v1.ClusterRoleBinding(
            f"{name}-wait-binding",
            metadata=ObjectMetaArgs(name="meshgate-wait"),
            role_ref=kubernetes.rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role.metadata.name
            ),
            subjects=[
                kubernetes.rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=account.metadata.name, namespace=account.metadata.namespace
                )
            ],
            opts=child,
        )

        def wait(step: str, condition: str, what: str) -> kubernetes.core.v1.ContainerArgs:
            return kubernetes.core.v1.ContainerArgs(
                name=step,
                image=mesh.kubectl_image,
                args=[
                    "wait",
                    f"--for={condition}",
                    what,
                    f"--namespace={mesh.namespace}",
                    f"--timeout={PROVISIONING_SECONDS}s",
                ],
                security_context=kubernetes.core.v1.SecurityContextArgs(
                    allow_privilege_escalation=False,
                    read_only_root_filesystem=True,
                    capabilities=kubernetes.core.v1.CapabilitiesArgs(drop=["ALL"]),
                ),
            )

        crds = "customresourcedefinition/"
        return kubernetes.batch.v1.Job(
            f"{name}-wait",
            metadata=ObjectMetaArgs(name="meshgate-wait", namespace=namespace),
            spec=kubernetes.batch.v1.JobSpecArgs(
                active_deadline_seconds=PROVISIONING_SECONDS,
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    spec=kubernetes.core.v1.PodSpecArgs(
                        service_account_name=account.metadata.name,
                        restart_policy="OnFailure",
                        security_context=kubernetes.core.v1.PodSecurityContextArgs(
                            run_as_non_root=True,
                            run_as_user=65532,
                            seccomp_profile=kubernetes.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
                        ),
                        # The image has kubectl and no shell: one step after the other.
                        init_containers=[
                            wait("kind", "create", f"{crds}controlplanerevisions.mesh.cloud.google.com"),
                            wait("revision", "create", f"controlplanerevision/{revision}"),
                            wait("reconciled", "condition=Reconciled", f"controlplanerevision/{revision}"),
                        ],
                        containers=[
                            wait("istio", "condition=Established", f"{crds}peerauthentications.security.istio.io")
                        ],
                    )
                ),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[enabled, binding],
                custom_timeouts=pulumi.CustomTimeouts(create=f"{PROVISIONING_SECONDS // 60 + 5}m"),
            ),
        )
