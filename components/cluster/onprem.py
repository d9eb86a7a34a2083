"""An on-prem cluster: one that exists."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi


@dataclass(kw_only=True)
class OnpremClusterArgs:
    """Arguments of OnpremCluster."""

    identifier: pulumi.Input[str]
    """A name for this cluster that does not change with its credentials."""

    kubeconfig: pulumi.Input[str]
    """A self-contained kubeconfig with one context (YAML); kept secret."""

    pod_cidr: pulumi.Input[str]
    """Range of the pods' addresses, for example 10.1.0.0/16."""

    service_cidr: pulumi.Input[str]
    """Range of the Services' cluster addresses, for example 10.2.0.0/20."""


class OnpremCluster(pulumi.ComponentResource):
    """Stands for an existing cluster, with the outputs that a cluster made in a cloud has too. It makes nothing."""

    identifier: pulumi.Output[str]
    kubeconfig: pulumi.Output[str]
    pod_cidr: pulumi.Output[str]
    service_cidr: pulumi.Output[str]

    def __init__(self, name: str, args: OnpremClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:cluster:OnpremCluster", name, None, opts)
        self.identifier = pulumi.Output.from_input(args.identifier)
        self.kubeconfig = pulumi.Output.secret(args.kubeconfig)
        self.pod_cidr = pulumi.Output.from_input(args.pod_cidr)
        self.service_cidr = pulumi.Output.from_input(args.service_cidr)
        self.register_outputs(
            {
                "identifier": self.identifier,
                "kubeconfig": self.kubeconfig,
                "podCidr": self.pod_cidr,
                "serviceCidr": self.service_cidr,
            }
        )
