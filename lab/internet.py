"""The lab's internet: web servers that answer as httpbin.org does, and one that wants to know its clients."""

import sys
from pathlib import Path

from lab import mutual, pki, web
from lab.instance import Instance
from lab.programs import pinned
from lab.service import Service
from lab.topology import INTERNET, MUTUAL_ADDRESS, MUTUAL_SERVER, SERVERS


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
    return [*services, _mutual(instance)]


def _mutual(instance: Instance) -> Service:
    pair = pki.internet_authority(instance).issue(MUTUAL_SERVER, MUTUAL_SERVER, dns=[MUTUAL_SERVER])
    clients = pki.internet_client_authority(instance).certificate
    return Service(
        INTERNET,
        MUTUAL_SERVER,
        (
            *(sys.executable, "-m", mutual.__name__, "--address", str(MUTUAL_ADDRESS)),
            *("--certificate", str(pair.certificate), "--key", str(pair.key), "--client-authority", str(clients)),
        ),
        f"http://{MUTUAL_ADDRESS}/",
        environment={"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"},
        files=(Path(mutual.__file__), Path(web.__file__)),
    )
