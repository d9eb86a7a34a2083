"""Google's stand-ins as a part of the lab."""

import sys
from pathlib import Path

from lab import pki, web
from lab.instance import Instance
from lab.service import Service
from lab.topology import GOOGLE, PRIVATE_APIS

USER = "google"


def agent(instance: Instance) -> Service:
    """Metadata server and storage, as one service of the lab."""
    kubeconfig = pki.kubeconfig(instance, USER, USER)
    names = ["*.googleapis.com", "storage.googleapis.com", "private.googleapis.com"]
    pair = pki.internet_authority(instance).issue("googleapis.com", "*.googleapis.com", dns=names)
    return Service(
        GOOGLE,
        "google",
        (
            *(sys.executable, "-m", "lab.google", "--kubeconfig", str(kubeconfig)),
            *("--certificate", str(pair.certificate), "--key", str(pair.key)),
        ),
        f"http://{PRIVATE_APIS[0]}/generate_204",
        environment={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"},
        files=(*sorted(Path(__file__).parent.glob("*.*")), Path(web.__file__)),
    )
