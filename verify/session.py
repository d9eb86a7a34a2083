"""From a stack's settings and contracts to what probes need; everything made on the way is taken away afterwards."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from settings import Layer, Settings
from verify import curl
from verify.context import Context
from verify.counters import Firewall
from verify.errors import VerifyError
from verify.kube import Kube
from verify.pods import Pods
from verify.shell import Local
from verify.workload import Images


@contextmanager
def session(
    settings: Settings, contracts: Mapping[Layer, dict[str, Any]], tell: Callable[[str], None]
) -> Iterator[Context]:
    """The context of probes, for one run or for several after one another; SIGTERM ends it as Ctrl-C does.

    Files and probe pods are gone after the block. `tell` is called with what happens. Raises VerifyError when clients
    or the cluster cannot be used.
    """
    clients = tuple(Local(client.name, client.command) for client in settings.verify.clients)
    for client in clients:
        curl.check_version(client)
    kube = Kube.from_kubeconfig(contracts["cluster"]["kubeconfig"])
    istio = settings.istio
    trust = _trust(settings.verify.trust)
    images = Images(asking=settings.verify.image, serving=f"{istio.hub}/proxyv2:{istio.version}")
    stop = threading.Event()
    # A kill must clean up as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="meshgate-verify-") as directory,
            Pods(kube, _revision_tag(contracts), images, stop, tell, trust) as pods,
        ):
            yield Context(
                settings=settings,
                contracts=dict(contracts),
                clients=clients,
                kube=kube,
                pods=pods,
                directory=Path(directory),
                stop=stop,
                firewall=Firewall(settings.verify.firewall_counters),
            )
    finally:
        signal.signal(signal.SIGTERM, before)


def _revision_tag(contracts: Mapping[Layer, dict[str, Any]]) -> str | None:
    """What probe pods' namespaces follow; None where the stack is below the mesh."""
    return contracts["mesh"]["revision_tag"] if "mesh" in contracts else None


def _trust(path: str | None) -> str | None:
    try:
        return None if path is None else Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise VerifyError(f"meshgate:verify.trust: cannot read {path}: {error.strerror}") from None
