"""What istiod says of itself: which proxies have what it sent them, and where it listens."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from verify.authority_workloads import ISTIOD
from verify.context import Context
from verify.errors import VerifyError
from verify.sockets import COMMAND, Listening, listening

PUSH_SECONDS = 10
"""After which a proxy that has not acknowledged anything it was sent refuses it."""

SENT = {"cluster": "CDS", "listener": "LDS", "route": "RDS", "endpoint": "EDS"}
"""What a proxy is sent, as istiod's /debug/syncz and `istioctl proxy-status` name it."""


@dataclass(frozen=True)
class Synchronization:
    """A proxy's, by istiod's account."""

    proxy: str
    """<pod>.<namespace>"""

    behind: tuple[str, ...]
    """What of CDS, LDS, RDS, EDS it was sent and has not acknowledged."""

    never: tuple[str, ...]
    """What of them it was not sent: it has no use for it."""


def istiods(context: Context) -> list[str]:
    """The control plane's pods; none where it is not in the cluster."""
    return context.kube.pods(str(context.contracts["mesh"]["namespace"]), {"app": "istiod"})


def synchronization(context: Context, istiod: str) -> Iterator[Synchronization]:
    """Of each proxy that is connected to this istiod."""
    for proxy in json.loads(_run(context, istiod, "pilot-discovery", "request", "GET", "/debug/syncz")):
        sent = {name: proxy.get(f"{kind}_sent", "") for kind, name in SENT.items()}
        acknowledged = {name: proxy.get(f"{kind}_acked", "") for kind, name in SENT.items()}
        yield Synchronization(
            proxy=str(proxy["proxy"]),
            behind=tuple(name for name in sent if sent[name] != acknowledged[name]),
            never=tuple(name for name in sent if not sent[name]),
        )


def lasting(context: Context, istiods: Sequence[str]) -> tuple[list[Synchronization], set[tuple[str, str]]]:
    """The proxies, and which of them (with what) never had all that they were sent, however often it was asked.

    At any one moment some proxy may be behind: whenever a pod comes or goes, all are sent something.
    """
    end = time.monotonic() + PUSH_SECONDS
    always: set[tuple[str, str]] | None = None
    while True:
        proxies = [proxy for istiod in istiods for proxy in synchronization(context, istiod)]
        now = {(proxy.proxy, name) for proxy in proxies for name in proxy.behind}
        always = now if always is None else always & now
        if not always or time.monotonic() > end or context.stop.wait(0.5):
            return proxies, always


def ports(context: Context, istiod: str) -> Mapping[int, Listening] | None:
    """The ports on which an istiod listens; None when its image has no `cat`."""
    try:
        return listening(_run(context, istiod, *COMMAND))
    except VerifyError as error:
        if re.search("executable file not found|no such file", str(error)):
            return None
        raise


def _run(context: Context, istiod: str, *command: str) -> str:
    done = context.kube.run(str(context.contracts["mesh"]["namespace"]), istiod, ISTIOD, command, timeout=15)
    if done.exit_code:
        raise VerifyError(f"cannot ask {istiod}: {done.stderr.strip()}")
    return done.stdout
