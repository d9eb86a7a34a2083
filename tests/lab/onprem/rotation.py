"""The steps of a renewal and of a root's rotation, each until the whole mesh has followed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.deployment import kubectl
from tests.lab.onprem.environment import AUTHORITY, GATEWAY, Onprem, wait_for
from tests.lab.onprem.proxies import Proxy, proxies, refresh
from tests.lab.steady import SteadyRequests, webapp

CONTROL_PLANE = ("-n", "istio-system", "-l", "app=istiod")
WORKLOAD = ("-n", "istioinaction", "deploy/catalog")


NEW_CONNECTIONS = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}-new-connections, namespace: istioinaction}}
spec:
  host: {name}.istioinaction.svc.cluster.local
  trafficPolicy: {{connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}}}
"""
"""A connection that exists outlives any certificate; so each request makes new ones, with a handshake at every hop."""


@contextmanager
def requests_at_new_connections(onprem: Onprem, directory: Path) -> Iterator[SteadyRequests]:
    """From the internet through the gateway to webapp and catalog, while the body runs."""
    file = directory / "new-connections.yaml"
    file.write_text("---\n".join(NEW_CONNECTIONS.format(name=name) for name in ("webapp", "catalog")))
    kubectl(onprem.lab, "apply", "-f", str(file))
    with SteadyRequests(webapp(onprem.stack, GATEWAY, directory)) as requests:
        yield requests
    kubectl(onprem.lab, "delete", "-f", str(file))


class Rotation:
    """What the operator of a mesh that is in use does, and waits for."""

    def __init__(self, onprem: Onprem, before: Callable[[], None] = lambda: None) -> None:
        """`before` comes before each `pulumi up`, when the file is changed already."""
        self.onprem = onprem
        self.lab = onprem.lab
        self._before = before

    def add(self, *generations: str) -> None:
        """Have the requests of new generations made."""
        self.onprem.generations.extend({"name": name} for name in generations)
        self._up()

    def renew(self, generation: str, root: str) -> None:
        """Have a generation sign whose root the mesh trusts: new certificates are its."""
        self.onprem.set_chain(generation, self.onprem.signed(generation, root))
        self.onprem.config[AUTHORITY]["active"] = generation
        self._up()
        wait_for(f"istiod has {generation}", lambda: self._signs(generation))

    def swap(self, generation: str, root: str) -> str:
        """Try to go to a root that the mesh does not trust: what `pulumi up` says. The file is as before then."""
        active = self.onprem.config[AUTHORITY]["active"]
        self.onprem.set_chain(generation, self.onprem.signed(generation, root))
        self.onprem.config[AUTHORITY]["active"] = generation
        done = self.onprem.up(check=False)
        assert done.returncode != 0
        self.onprem.set_chain(generation, None)
        self.onprem.config[AUTHORITY]["active"] = active
        return done.stdout + done.stderr

    def trust(self, generation: str, root: str) -> None:
        """The first step of a root's rotation: the mesh trusts the new one too."""
        self.onprem.set_chain(generation, self.onprem.signed(generation, root))
        self._up()
        self._wait(f"every proxy trusts {root}", lambda proxy: root in proxy.trusted)
        refresh(self.lab, "-A", "--all")
        self._wait(f"every proxy would trust an istiod of {root}", lambda proxy: proxy.trusted == proxy.mounted)

    def activate(self, generation: str) -> None:
        """The second step: the new generation signs, and every proxy has a certificate of its."""
        self.onprem.config[AUTHORITY]["active"] = generation
        self._up()
        self._wait(f"every certificate is of {generation}", lambda proxy: proxy.signer == self._subject(generation))

    def drop(self, *generations: str) -> None:
        """The third step: the old ones go, and nobody trusts their root any more."""
        left = [entry for entry in self.onprem.generations if entry["name"] not in generations]
        self.onprem.config[AUTHORITY]["generations"] = left
        self._up()
        self._wait("one root is left", lambda proxy: len(proxy.trusted) == 1)

    def _up(self) -> None:
        self._before()
        self.onprem.up()
        refresh(self.lab, *CONTROL_PLANE)

    def _wait(self, what: str, condition: Callable[[Proxy], bool]) -> None:
        wait_for(what, lambda: all(condition(proxy) for proxy in proxies(self.lab)))

    def _signs(self, generation: str) -> bool:
        """Whether a workload that starts now gets its certificate from it."""
        kubectl(self.lab, "rollout", "restart", *WORKLOAD)
        kubectl(self.lab, "rollout", "status", *WORKLOAD, "--timeout=60s")
        new = [proxy for proxy in proxies(self.lab) if proxy.pod.startswith("istioinaction/catalog-")]
        return bool(new) and {proxy.signer for proxy in new} == {self._subject(generation)}

    def _subject(self, generation: str) -> str:
        return f"{self.onprem.config['meshgate:name']} mesh {generation}"
