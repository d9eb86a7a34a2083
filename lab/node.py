"""A Kubernetes node: containerd, kubelet and kube-proxy in a machine of its own.

Inside, the programs use their default paths; a node's own directories are mounted over them.
"""

import json
import shlex
from contextlib import suppress
from pathlib import Path

import tools
from lab import cgroups, dns, network_policy, pki, registry
from lab.files import write
from lab.instance import Instance, base_directory
from lab.programs import pinned, system
from lab.service import Service
from lab.topology import CLUSTER_DOMAIN, DNS_SERVICE, NODES, PODS_RANGE, Node

CNI_PLUGINS = Path("/usr/lib/cni")
SANDBOX_IMAGE = "registry.k8s.io/pause:3.10"

# The kubelet sets these for the whole machine, "panic when the kernel stumbles" among them. It leaves them alone when
# it reads the wanted values, so it gets to see files that hold them.
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def prepare(instance: Instance, node: Node) -> list[str]:
    """What the node's machine does at its start: its mounts and kernel settings."""
    directory = instance.directory / "nodes" / node.name
    library, logs, kernel = directory / "lib", directory / "log", directory / "kernel"
    for path in (library, logs):
        path.mkdir(parents=True, exist_ok=True)
    cgroups.create(f"{instance.cgroup}/{node.name}")
    commands = ["echo 1 > /proc/sys/net/ipv4/ip_forward"]
    for setting, value in KERNEL_SETTINGS.items():
        path = write(kernel / setting, f"{value}\n")
        commands.append(_mount("--bind", path, f"/proc/sys/{setting}"))
    for own, target in ((library, "/var/lib"), (logs, "/var/log")):
        for kept in (base_directory(), tools.cache_dir()):
            if kept.is_relative_to(target):  # the lab's own files stay where they are
                inner = own / kept.relative_to(target)
                inner.mkdir(parents=True, exist_ok=True)
                commands.append(_mount("--bind", kept, inner))
        commands.append(_mount("--rbind", own, target))
    return [
        *commands,
        _mount("--bind", dns.resolv_conf(instance), "/etc/resolv.conf"),
        "mount -t tmpfs -o mode=0755 tmpfs /run",
        "mount --make-rshared /",
    ]


def services(instance: Instance, node: Node) -> list[Service]:
    """The node's programs, with their configuration written."""
    directory = instance.directory / "nodes" / node.name
    network = directory / "cni"
    write(network / "10-ptp.conflist", render_network(node))
    configuration = render_containerd(str(plugins(instance)), str(network), registry.mirror_directory(instance))
    containerd = write(directory / "containerd.toml", configuration)
    authority = pki.cluster_authority(instance)
    serving = authority.issue(f"{node.name}-kubelet", node.name, dns=[node.name], addresses=[node.address])
    kubelet_settings = kubelet_configuration(
        instance, node, str(authority.certificate), str(serving.certificate), str(serving.key)
    )
    kubelet = write(directory / "kubelet.json", json.dumps(kubelet_settings, indent=2))
    kubelet_user = pki.kubeconfig(instance, node.name, f"system:node:{node.name}", ["system:nodes"])
    proxy_user = pki.kubeconfig(instance, "kube-proxy", "system:kube-proxy")
    labels = ",".join(f"{key}={value}" for key, value in node.labels.items())
    return [
        Service(
            node.name,
            "containerd",
            (system("containerd"), f"--config={containerd}", "--log-level=warn"),
            "unix:///run/containerd/containerd.sock",
            files=(containerd,),
        ),
        Service(
            node.name,
            "kubelet",
            (
                *(pinned("kubelet"), f"--config={kubelet}", f"--kubeconfig={kubelet_user}"),
                *(f"--hostname-override={node.name}", f"--node-ip={node.address}", f"--node-labels={labels}"),
            ),
            "http://127.0.0.1:10248/healthz",
            files=(kubelet,),
        ),
        Service(
            node.name,
            "kube-proxy",
            (
                *(pinned("kube-proxy"), f"--kubeconfig={proxy_user}", f"--hostname-override={node.name}"),
                *("--proxy-mode=nftables", f"--cluster-cidr={PODS_RANGE}"),
                # These settings belong to the whole machine, not to a network namespace.
                *("--conntrack-max-per-core=0", "--conntrack-min=0", "--oom-score-adj=0"),
            ),
            "http://127.0.0.1:10256/livez",
        ),
    ]


def pod_ranges() -> str:
    """Manifests that tell the API server each node's pod range, for those who look for it there."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": it.name},
            "spec": {"podCIDR": str(it.pods), "podCIDRs": [str(it.pods)]},
        }
        for it in NODES
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def render_network(node: Node) -> str:
    """The node's CNI configuration: a point-to-point link per pod, routed by the node, never translated.

    With no bridge, traffic between pods of one node is routed too, so that it can be filtered like any other.
    """
    pods = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": 1500,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": str(node.pods)}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
    policies = {"type": network_policy.PLUGIN}
    return json.dumps({"cniVersion": "1.0.0", "name": "lab", "plugins": [pods, ports, policies]}, indent=2)


def plugins(instance: Instance) -> Path:
    """The directory of the CNI plugins: Debian's, and the lab's own."""
    directory = instance.directory / "cni"
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("loopback", "ptp", "host-local", "portmap"):  # containerd uses loopback of its own accord
        with suppress(FileExistsError):
            (directory / name).symlink_to(CNI_PLUGINS / name)
    write(directory / network_policy.PLUGIN, network_policy.plugin(instance), 0o755)
    return directory


def render_containerd(cni_plugins: str, network: str, mirrors: str) -> str:
    """containerd's configuration."""
    return f"""version = 2
# It would make /opt/containerd on the machine.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX_IMAGE}"
  # A process without CAP_SYS_RESOURCE cannot give a container a better score than its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{network}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{mirrors}"
"""


def kubelet_configuration(
    instance: Instance, node: Node, authority: str, certificate: str, key: str
) -> dict[str, object]:
    """The kubelet's configuration (KubeletConfiguration kubelet.config.k8s.io/v1beta1)."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(node.address),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": authority},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": certificate,
        "tlsPrivateKeyFile": key,
        "clusterDNS": [str(DNS_SERVICE)],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        # Kubelets of one machine delete each other's pods unless each has a part of the tree of its own.
        "cgroupRoot": f"/{instance.cgroup}/{node.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "maxPods": 60,
        # The nodes share the machine's disk and memory: its owner's other files are no reason to evict pods.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        "registerWithTaints": [
            {"key": key, "value": value, "effect": "NoSchedule"} for key, value in node.pool.taints.items()
        ],
        "serializeImagePulls": False,
    }


def _mount(how: str, source: object, target: str | object) -> str:
    return shlex.join(["mount", how, str(source), str(target)])
