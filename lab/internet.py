"""The lab's internet: web servers that answer as httpbin.org does, on HTTP and HTTPS."""

from lab.instance import Instance
from lab.pki import Authority
from lab.programs import pinned
from lab.service import Service
from lab.topology import INTERNET, SERVERS


def servers(instance: Instance) -> list[Service]:
    """Two services per web server. Their certificates are of an authority of the internet's own (internet_ca)."""
    authority = Authority(instance.internet_ca.parent, "Lab Internet CA")
    authority.create()
    services = []
    for name, address in SERVERS.items():
        pair = authority.issue(name, name, dns=[name, f"*.{name}"])
        common = (pinned("go-httpbin"), "-host", str(address))
        tls = ("-https-cert-file", str(pair.certificate), "-https-key-file", str(pair.key))
        services += [
            Service(INTERNET, f"{name}-http", (*common, "-port", "80"), f"http://{address}/status/200"),
            Service(INTERNET, f"{name}-https", (*common, "-port", "443", *tls), f"https://{address}/status/200"),
        ]
    return services
