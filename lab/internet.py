"""The lab's internet: web servers that answer as httpbin.org does, one that knows its clients, one for its own name."""

import sys
from ipaddress import IPv4Address
from pathlib import Path
from types import ModuleType

from lab import mutual, pki, site, web
from lab.instance import Instance
from lab.programs import pinned
from lab.service import Service
from lab.topology import INTERNET, MUTUAL_ADDRESS, MUTUAL_SERVER, SERVERS, SITE_ADDRESS, SITE_SERVER


def certificates(instance: Instance) -> None:
    """Make what settings may name: the internet's authority, and a client's certificate and key."""
    pki.internet_authority(instance)
    client = instance.internet_client_certificate
    pki.internet_client_authority(instance).issue(client.stem, client.stem, ["meshgate-lab"])


def servers(instance: Instance) -> list[Service]:
    """The web servers. Their certificates are of an authority of the internet's own (internet_ca)."""
    authority = pki.internet_authority(instance)
    services = []
    for name, address in SERVERS.items():
        pair = authority.issue(name, name, dns=[name, f"*.{name}"])
        common = (pinned("go-httpbin"), "-host", str(address))
        tls = ("-https-cert-file", str(pair.certificate), "-https-key-file", str(pair.key))
        services += [
            Service(INTERNET, f"{name}-http", (*common, "-port", "80"), f"http://{address}/status/200"),
            Service(INTERNET, f"{name}-https", (*common, "-port", "443", *tls), f"https://{address}/status/200"),
        ]
    return [*services, _mutual(instance), _site(instance)]


def _mutual(instance: Instance) -> Service:
    clients = pki.internet_client_authority(instance).certificate
    return _own(instance, mutual, MUTUAL_SERVER, MUTUAL_ADDRESS, "--client-authority", str(clients))


def _site(instance: Instance) -> Service:
    return _own(instance, site, SITE_SERVER, SITE_ADDRESS, "--host", SITE_SERVER)


def _own(instance: Instance, server: ModuleType, name: str, address: IPv4Address, *options: str) -> Service:
    """A server of the lab's own, with a certificate of its name."""
    pair = pki.internet_authority(instance).issue(name, name, dns=[name])
    return Service(
        INTERNET,
        name,
        (
            *(sys.executable, "-m", server.__name__, "--address", str(address)),
            *("--certificate", str(pair.certificate), "--key", str(pair.key), *options),
        ),
        f"tcp://{address}:443",
        environment={"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"},
        files=(Path(str(server.__file__)), Path(web.__file__)),
    )
