"""The Kubernetes control plane, of the lab and of the bare cluster: etcd, API server, controllers, scheduler."""

from collections.abc import Sequence

from lab import pki
from lab.instance import Instance
from lab.programs import pinned, system
from lab.service import Service
from lab.topology import (
    API_PORT,
    CLUSTER_DOMAIN,
    CONTROL,
    CONTROL_PLANE,
    KUBERNETES_SERVICE,
    PODS_RANGE,
    SERVICES_RANGE,
)

KUBELET_CLIENT = "kube-apiserver-kubelet-client"
ISSUER = f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}"


def admin_kubeconfig(instance: Instance) -> None:
    """Write the administrator's kubeconfig, instance.kubeconfig."""
    pki.kubeconfig(instance, instance.kubeconfig.stem, "admin", ["system:masters"])


def etcd(instance: Instance) -> Service:
    """etcd speaks plain HTTP: it listens on the loopback of its machine alone, where only root of the lab is."""
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    command = (
        *(system("etcd"), f"--data-dir={instance.directory / CONTROL / 'etcd'}"),
        *(f"--listen-client-urls={client}", f"--advertise-client-urls={client}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
        # Syncing each write to the disk guards against a power cut. A lab is made anew then, and is faster without.
        "--unsafe-no-fsync",
        "--auto-compaction-retention=0",
        "--log-level=warn",
    )
    return Service(CONTROL, "etcd", command, f"{client}/health")


def api_server(instance: Instance, disabled_admission_plugins: Sequence[str] = ()) -> Service:
    """The API server, with Node and RBAC authorization as any current cluster has them."""
    authority = pki.cluster_authority(instance)
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}"]
    addresses = [CONTROL_PLANE, KUBERNETES_SERVICE]
    serving = authority.issue("kube-apiserver", "kube-apiserver", dns=names, addresses=addresses)
    kubelet_client = authority.issue(KUBELET_CLIENT, KUBELET_CLIENT)
    tokens = pki.signing_key(authority.directory / "service-account-key.pem")
    command = (
        pinned("kube-apiserver"),
        "--etcd-servers=http://127.0.0.1:2379",
        *(f"--advertise-address={CONTROL_PLANE}", f"--bind-address={CONTROL_PLANE}", f"--secure-port={API_PORT}"),
        *(f"--tls-cert-file={serving.certificate}", f"--tls-private-key-file={serving.key}"),
        f"--client-ca-file={authority.certificate}",
        *(f"--service-account-issuer={ISSUER}", f"--service-account-key-file={tokens}"),
        f"--service-account-signing-key-file={tokens}",
        f"--service-cluster-ip-range={SERVICES_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--disable-admission-plugins={','.join(disabled_admission_plugins)}",
        "--allow-privileged=true",
        *(f"--kubelet-client-certificate={kubelet_client.certificate}", f"--kubelet-client-key={kubelet_client.key}"),
        f"--kubelet-certificate-authority={authority.certificate}",
        # Node names are in no DNS.
        "--kubelet-preferred-address-types=InternalIP",
        # Call webhooks at their pods' addresses: no kube-proxy runs beside the API server.
        "--enable-aggregator-routing=true",
        # Debian's etcd does not tell how far it is. With this on, a watch that names no version of a resource that
        # nothing happens to would end in "Too large resource version" after 3 seconds.
        "--feature-gates=WatchList=false",
        "--event-ttl=15m",
        "--profiling=false",
    )
    return Service(CONTROL, "kube-apiserver", command, f"https://{CONTROL_PLANE}:{API_PORT}/readyz")


def controllers(instance: Instance) -> list[Service]:
    """Controller manager and scheduler. There is one of each, so nothing is gained by electing a leader."""
    authority = pki.cluster_authority(instance)
    tokens = pki.signing_key(authority.directory / "service-account-key.pem")
    manager = pki.kubeconfig(instance, "kube-controller-manager", "system:kube-controller-manager")
    scheduler = pki.kubeconfig(instance, "kube-scheduler", "system:kube-scheduler")
    return [
        Service(
            CONTROL,
            "kube-controller-manager",
            (
                *(pinned("kube-controller-manager"), f"--kubeconfig={manager}"),
                *("--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"),
                *("--use-service-account-credentials=true", f"--service-account-private-key-file={tokens}"),
                *(f"--root-ca-file={authority.certificate}", f"--cluster-cidr={PODS_RANGE}"),
                f"--cluster-signing-cert-file={authority.certificate}",
                f"--cluster-signing-key-file={authority.key}",
            ),
            "https://127.0.0.1:10257/healthz",
        ),
        Service(
            CONTROL,
            "kube-scheduler",
            (
                *(pinned("kube-scheduler"), f"--kubeconfig={scheduler}"),
                *("--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false"),
            ),
            "https://127.0.0.1:10259/healthz",
        ),
    ]
