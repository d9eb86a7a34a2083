"""The lab's resolver: CoreDNS in the control machine, for the cluster's names, the lab's internet and Google's APIs."""

from lab import pki
from lab.files import write
from lab.instance import Instance
from lab.nlb.addresses import DOMAIN
from lab.nlb.data_path import NAMES_RELOAD, names_file
from lab.programs import pinned
from lab.service import Service
from lab.topology import (
    CLUSTER_DOMAIN,
    CONTROL,
    CONTROL_PLANE,
    METADATA_ADDRESS,
    METADATA_SERVER,
    MUTUAL_ADDRESS,
    MUTUAL_SERVER,
    PRIVATE_APIS,
    RESOLVER,
    RESTRICTED_APIS,
    SERVERS,
    SITE_ADDRESS,
    SITE_SERVER,
)

USER = "coredns"


def coredns(instance: Instance) -> Service:
    """CoreDNS at the control plane's address; pods reach it through the Service kube-dns."""
    directory = instance.directory / CONTROL / "dns"
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    zone = write(directory / "internet.zone", render_zone())
    corefile = write(directory / "Corefile", render_corefile(str(kubeconfig), str(zone), str(names_file(instance))))
    command = (pinned("coredns"), "-conf", str(corefile))
    return Service(CONTROL, "coredns", command, "http://127.0.0.1:8181/ready", files=(corefile, zone))


def resolv_conf(instance: Instance) -> str:
    """Write the machines' resolv.conf and return its path."""
    return str(write(instance.directory / "resolv.conf", f"nameserver {CONTROL_PLANE}\n", 0o644))


def render_corefile(kubeconfig: str, zone: str, load_balancers: str) -> str:
    """CoreDNS's configuration. The zone of the lab's internet is the root: a name in none is NXDOMAIN at once.

    The names of load balancers come and go, so they are in a file of their own that is read again when it changes.
    """
    return f""".:53 {{
    bind {CONTROL_PLANE} {RESOLVER}
    errors
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig "{kubeconfig}" lab
        pods insecure
    }}
    hosts "{load_balancers}" {DOMAIN} {{
        ttl 5
        reload {NAMES_RELOAD * 1000:.0f}ms
        no_reverse
        fallthrough
    }}
    file "{zone}" .
}}
"""


def render_zone() -> str:
    """The names outside the cluster as a zone file: the lab's internet, and those of GKE's private DNS zones."""
    addresses = {
        **{name: (address,) for name, address in SERVERS.items()},
        MUTUAL_SERVER: (MUTUAL_ADDRESS,),
        SITE_SERVER: (SITE_ADDRESS,),
        METADATA_SERVER: (METADATA_ADDRESS,),
        "private.googleapis.com": tuple(PRIVATE_APIS),
        "restricted.googleapis.com": tuple(RESTRICTED_APIS),
    }
    records = [f"{name}. IN A {address}" for name, given in addresses.items() for address in given]
    lines = [
        "$TTL 5",
        ". IN SOA ns.lab. lab. 1 60 60 60 5",
        ". IN NS ns.lab.",
        *records,
        "*.googleapis.com. IN CNAME private.googleapis.com.",
    ]
    return "".join(f"{line}\n" for line in lines)
