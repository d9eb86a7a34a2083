"""The lab's resolver: CoreDNS in the control machine, for the cluster's names and for those of the lab's internet."""

from lab import pki
from lab.files import write
from lab.instance import Instance
from lab.programs import pinned
from lab.service import Service
from lab.topology import CLUSTER_DOMAIN, CONTROL, CONTROL_PLANE, SERVERS

USER = "coredns"


def coredns(instance: Instance) -> Service:
    """CoreDNS at the control plane's address; pods reach it through the Service kube-dns."""
    directory = instance.directory / CONTROL / "dns"
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    zone = write(directory / "internet.zone", render_zone())
    corefile = write(directory / "Corefile", render_corefile(str(kubeconfig), str(zone)))
    command = (pinned("coredns"), "-conf", str(corefile))
    return Service(CONTROL, "coredns", command, "http://127.0.0.1:8181/ready", files=(corefile, zone))


def resolv_conf(instance: Instance) -> str:
    """Write the machines' resolv.conf and return its path."""
    return str(write(instance.directory / "resolv.conf", f"nameserver {CONTROL_PLANE}\n", 0o644))


def render_corefile(kubeconfig: str, zone: str) -> str:
    """CoreDNS's configuration. The zone of the lab's internet is the root: a name in neither is NXDOMAIN at once."""
    return f""".:53 {{
    bind {CONTROL_PLANE}
    errors
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig "{kubeconfig}" lab
        pods insecure
    }}
    file "{zone}" .
}}
"""


def render_zone() -> str:
    """The names of the lab's internet as a zone file."""
    records = "".join(f"{name}. IN A {address}\n" for name, address in SERVERS.items())
    return f"$TTL 5\n. IN SOA ns.lab. lab. 1 60 60 60 5\n. IN NS ns.lab.\n{records}"
