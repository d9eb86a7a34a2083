"""The steps of a renewal and of a root's rotation, each until the whole mesh has followed it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.instance import Instance
from tests.deployment import kubectl
from tests.lab.onprem.environment import AUTHORITY, GATEWAY, Onprem, wait_for
from tests.lab.onprem.proxies import Proxy, proxies, refresh
from tests.lab.steady import SteadyRequests, webapp

CONTROL_PLANE = ("-n", "istio-system", "-l", "app=istiod")
CATALOG = ("istioinaction", "catalog")
SECONDS_TO_FOLLOW = 15


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
        self._plug_in()
        restart(self.lab, {CATALOG})
        new = {proxy.signer for proxy in proxies(self.lab) if deployment(proxy) == CATALOG}
        assert new == {self._subject(generation)}

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
        self._plug_in()
        self._wait(f"every proxy trusts {root}", lambda proxy: root in proxy.trusted)
        refresh(self.lab, "-A", "--all")
        self._wait(f"every proxy would trust an istiod of {root}", lambda proxy: proxy.trusted == proxy.mounted)

    def activate(self, generation: str) -> None:
        """The second step: the new generation signs, and every proxy has a certificate of its."""
        self.onprem.config[AUTHORITY]["active"] = generation
        self._plug_in()
        self._follow(f"every certificate is of {generation}", lambda proxy: proxy.signer == self._subject(generation))

    def drop(self, *generations: str) -> None:
        """The third step: the old ones go, and nobody trusts their root any more."""
        left = [entry for entry in self.onprem.generations if entry["name"] not in generations]
        self.onprem.config[AUTHORITY]["generations"] = left
        self._plug_in()
        self._follow("one root is left", lambda proxy: len(proxy.trusted) == 1)

    def _up(self) -> None:
        self._before()
        self.onprem.up()

    def _plug_in(self) -> None:
        """`pulumi up` of another Secret `cacerts`, until every istiod works with it."""
        before = reloads(self.lab)
        self._up()
        refresh(self.lab, *CONTROL_PLANE)
        wait_for("every istiod has it", lambda: all(reloads(self.lab)[pod] > before[pod] for pod in before))

    def _wait(self, what: str, condition: Callable[[Proxy], bool]) -> None:
        wait_for(what, lambda: all(condition(proxy) for proxy in proxies(self.lab)))

    def _follow(self, what: str, condition: Callable[[Proxy], bool]) -> None:
        """Proxies follow by themselves within seconds. One whose request came to an istiod that had not read the Secret
        yet would do so only when it next renews its certificate: it is restarted."""
        end = time.monotonic() + SECONDS_TO_FOLLOW
        while late := {deployment(proxy) for proxy in proxies(self.lab) if not condition(proxy)}:
            if time.monotonic() > end:
                restart(self.lab, late)
                break
            time.sleep(0.5)
        self._wait(what, condition)

    def _subject(self, generation: str) -> str:
        return f"{self.onprem.config['meshgate:name']} mesh {generation}"


def reloads(lab: Instance) -> dict[str, int]:
    """How often each istiod has taken another CA since it started."""
    pods = kubectl(lab, "get", "pods", *CONTROL_PLANE, "-o", "jsonpath={.items[*].metadata.name}").split()
    logs = {pod: kubectl(lab, "logs", pod, "-n", "istio-system") for pod in pods}
    return {pod: log.count("Istiod has detected the newly added intermediate CA") for pod, log in logs.items()}


def deployment(proxy: Proxy) -> tuple[str, str]:
    """(namespace, name) of a pod's Deployment."""
    namespace, pod = proxy.pod.split("/")
    return namespace, pod.rsplit("-", 2)[0]


def restart(lab: Instance, deployments: Iterable[tuple[str, str]]) -> None:
    """Roll them, until the old pods are gone."""
    for namespace, name in deployments:
        kubectl(lab, "rollout", "restart", f"deploy/{name}", "-n", namespace)
        kubectl(lab, "rollout", "status", f"deploy/{name}", "-n", namespace, "--timeout=180s")
