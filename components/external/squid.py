"""Squid as a proxy for a few namespaces, to a few hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.network_policy import DNS_PORT, EVERYWHERE, LINK_LOCAL, blocks, namespace, tcp
from components.external.istio import HTTP_PORT, HTTPS_PORT
from components.pod_security import restricted
from settings.external import ExternalSettings, Step

NAME = "squid"
PORT = 3128
USER = 13
"""proxy, in Debian and what comes of it."""

MEMORY_LIMIT = "256Mi"
"""It keeps nothing: what it takes are its connections' buffers."""

CLIENTS: tuple[Step, ...] = ("client", "client-allow-any", "client-registry-only", "client-http", "client-tcp")
"""The steps whose pods may use it."""

LOG_FORMAT = '%ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt "%{User-Agent}>h"'
"""Squid's own, with the user agent."""

DIRECTORY = "/etc/meshgate"
FILE = "squid.conf"


@dataclass(kw_only=True)
class SquidArgs:
    """Arguments of Squid."""

    external: ExternalSettings
    namespace: pulumi.Input[str]
    pod_cidr: pulumi.Input[str]
    """Where clients are."""

    service_cidr: pulumi.Input[str]


class Squid(pulumi.ComponentResource):
    """A Deployment that keeps nothing and runs as nobody, a Service, and a NetworkPolicy.

    Both Squid and the NetworkPolicy know who may ask (the steps' clients) and for what (web servers outside the
    cluster), so that it is no open proxy.
    """

    address: pulumi.Output[str]
    """The Service's; clients use it, as the mesh is not to know the Service's name."""

    def __init__(self, name: str, args: SquidArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:external:Squid", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        external = args.external
        metadata = kubernetes.meta.v1.ObjectMetaArgs(name=NAME, namespace=args.namespace, labels={"app": NAME})
        cidrs = pulumi.Output.all(pods=args.pod_cidr, services=args.service_cidr)
        text = cidrs.apply(lambda found: configuration((external.registered, external.unregistered), **found))

        file = kubernetes.core.v1.ConfigMap(f"{name}-configuration", metadata=metadata, data={FILE: text}, opts=child)
        closed = kubernetes.networking.v1.NetworkPolicy(
            f"{name}-network",
            metadata=metadata,
            spec=cidrs.apply(lambda found: network_policy(external, **found)),
            opts=child,
        )
        deployment = kubernetes.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=metadata,
            spec=kubernetes.apps.v1.DeploymentSpecArgs(
                replicas=1,
                selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": NAME}),
                template=kubernetes.core.v1.PodTemplateSpecArgs(
                    metadata=kubernetes.meta.v1.ObjectMetaArgs(
                        labels={"app": NAME, "sidecar.istio.io/inject": "false"},
                        # Squid reads its configuration once.
                        annotations={"meshgate.dev/configuration": text.apply(_digest)},
                    ),
                    spec=_pod(external, file.metadata.name),
                ),
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[closed]),
        )
        service = kubernetes.core.v1.Service(
            f"{name}-service",
            metadata=metadata,
            spec=kubernetes.core.v1.ServiceSpecArgs(
                selector={"app": NAME},
                ports=[kubernetes.core.v1.ServicePortArgs(name="tcp-proxy", port=PORT, target_port="proxy")],
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        # With the id, which no preview knows: before its namespace exists, a preview takes the address for none.
        self.address = pulumi.Output.all(service.id, service.spec.cluster_ip).apply(lambda both: str(both[1]))
        self.register_outputs({"address": self.address})


def configuration(hosts: Sequence[str], pods: str, services: str) -> str:
    """squid.conf: from the cluster's pods to the web servers of these hosts, and nothing else.

    Reference: Squid's configuration directives, http_access and logformat.
    """
    return f"""\
http_port {PORT}
visible_hostname {NAME}

acl clients src {pods}
acl hosts dstdomain {" ".join(hosts)}
acl inside dst {pods} {services} {LINK_LOCAL} 127.0.0.0/8 0.0.0.0/32 ::1/128 fe80::/10 fc00::/7
acl http_port port {HTTP_PORT}
acl https_port port {HTTPS_PORT}
http_access deny !clients
http_access deny !hosts
http_access deny inside
http_access deny CONNECT !https_port
http_access deny !CONNECT !http_port
http_access allow clients
http_access deny all

# Nothing of connections that asked for nothing, as the kubelet's do.
logformat meshgate {LOG_FORMAT}
acl asked has request
access_log stdio:/dev/stdout logformat=meshgate asked
cache_log /dev/stderr

# Outside nobody needs to know who asked, and with what.
forwarded_for delete
httpd_suppress_version_string on

# It keeps nothing and writes nothing, but its log.
cache deny all
cache_mem 0
cache_store_log none
netdb_filename none
pid_filename none
coredump_dir none
pinger_enable off
# It takes memory for each, and some container runtimes allow a thousand million.
max_filedescriptors 4096
shutdown_lifetime 2 seconds
"""


def network_policy(external: ExternalSettings, pods: str, services: str) -> Any:
    """The spec. In: the steps' clients. Out: names, and web servers outside the cluster."""
    clients = [external.namespaces[step] for step in CLIENTS]
    dns = [namespace("kube-system"), *blocks([str(cidr) for cidr in external.dns_addresses])]
    return {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [namespace(client) for client in clients], "ports": tcp(PORT)}],
        "egress": [
            {"to": dns, "ports": [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]},
            {
                "to": [{"ipBlock": {"cidr": EVERYWHERE, "except": [pods, services, LINK_LOCAL]}}],
                "ports": tcp(HTTP_PORT, HTTPS_PORT),
            },
        ],
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _pod(external: ExternalSettings, file: pulumi.Input[str]) -> kubernetes.core.v1.PodSpecArgs:
    container = kubernetes.core.v1.ContainerArgs(
        name=NAME,
        image=external.squid.image,
        command=[NAME, "-N", "-f", f"{DIRECTORY}/{FILE}"],
        ports=[kubernetes.core.v1.ContainerPortArgs(name="proxy", container_port=PORT)],
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            tcp_socket=kubernetes.core.v1.TCPSocketActionArgs(port="proxy"), period_seconds=5
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": external.squid.resources.cpu, "memory": external.squid.resources.memory},
            limits={"memory": MEMORY_LIMIT},
        ),
        security_context=restricted(USER),
        volume_mounts=[
            kubernetes.core.v1.VolumeMountArgs(name="configuration", mount_path=DIRECTORY, read_only=True),
        ],
    )
    return kubernetes.core.v1.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        termination_grace_period_seconds=5,
        node_selector=external.nodes.labels,
        tolerations=[
            kubernetes.core.v1.TolerationArgs(key=taint.key, operator="Equal", value=taint.value, effect=taint.effect)
            for taint in external.nodes.taints
        ],
        containers=[container],
        volumes=[
            kubernetes.core.v1.VolumeArgs(
                name="configuration", config_map=kubernetes.core.v1.ConfigMapVolumeSourceArgs(name=file)
            )
        ],
    )
