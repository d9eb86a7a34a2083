"""The certificates that AWS Certificate Manager has in the lab, of the authority of the lab's internet."""

from pathlib import Path

from lab import pki
from lab.files import write
from lab.instance import Instance
from lab.nlb import directory
from lab.topology import REGION

ACCOUNT = "123456789012"
NAMES = {
    f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/00000000-0000-4000-8000-000000000001": (
        "example.com",
        "*.example.com",
    ),
}
"""ARN -> the names that it is for."""


def create(instance: Instance) -> None:
    """Make what is missing: for each ARN a file with certificate and key, as HAProxy reads them."""
    for arn, names in NAMES.items():
        path = file(instance, arn)
        if not path.exists():
            pair = pki.internet_authority(instance).issue(path.stem, names[0], dns=names)
            write(path, pair.certificate.read_bytes() + pair.key.read_bytes())


def file(instance: Instance, arn: str) -> Path:
    """Certificate and key of an ARN, in one file."""
    return directory(instance) / "certificates" / f"{arn.rpartition('/')[2]}.pem"
