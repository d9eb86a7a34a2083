"""EKS's own add-ons: what runs on every node must be there before them, the rest needs nodes to run on."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pulumi
from pulumi_aws import eks

from components.cluster.eks_roles import Identity, PodIdentity, pod_trust, role
from settings.cluster_eks import AddOn, EksCluster

CNI_SERVICE_ACCOUNT = "aws-node"


@dataclass(frozen=True, kw_only=True)
class AddOns:
    """Makes the add-ons of one cluster."""

    name: str
    """Prefix of the resources' names."""

    cluster: pulumi.Input[str]
    settings: EksCluster
    identity: Identity
    parent: pulumi.Resource

    def on_every_node(self) -> list[eks.Addon]:
        """kube-proxy, the Pod Identity agent, and the VPC CNI, which enforces NetworkPolicies."""
        kube_proxy = self._add_on("kube-proxy")
        agent = self._add_on("eks-pod-identity-agent")
        cni_role = role(
            f"{self.name}-vpc-cni-role",
            description=f"VPC CNI of the cluster {self.settings.name}",
            trust=pod_trust(self.identity, CNI_SERVICE_ACCOUNT),
            managed=("AmazonEKS_CNI_Policy",),
            parent=self.parent,
        )
        by_agent = isinstance(self.identity, PodIdentity)
        cni = self._add_on(
            "vpc-cni",
            agent,
            configuration={"enableNetworkPolicy": "true"},
            pod_identity=cni_role if by_agent else None,
            irsa=None if by_agent else cni_role,
        )
        return [kube_proxy, agent, cni]

    def on_some_nodes(self, nodes: eks.NodeGroup) -> list[eks.Addon]:
        """CoreDNS, which is ready only when it runs somewhere."""
        return [self._add_on("coredns", nodes)]

    def _add_on(
        self,
        add_on: AddOn,
        *first: pulumi.Resource,
        configuration: dict[str, str] | None = None,
        pod_identity: pulumi.Input[str] | None = None,
        irsa: pulumi.Input[str] | None = None,
    ) -> eks.Addon:
        return eks.Addon(
            f"{self.name}-{add_on}",
            cluster_name=self.cluster,
            addon_name=add_on,
            addon_version=self.settings.add_on_versions.get(add_on),
            configuration_values=json.dumps(configuration) if configuration else None,
            pod_identity_associations=[
                eks.AddonPodIdentityAssociationArgs(role_arn=pod_identity, service_account=CNI_SERVICE_ACCOUNT)
            ]
            if pod_identity is not None
            else None,
            service_account_role_arn=irsa,
            # Settings decide, not what somebody changed in the cluster.
            resolve_conflicts_on_create="OVERWRITE",
            resolve_conflicts_on_update="OVERWRITE",
            opts=pulumi.ResourceOptions(parent=self.parent, depends_on=list(first)),
        )
