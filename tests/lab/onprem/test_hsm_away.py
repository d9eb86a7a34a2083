"""H5: without Vault and without the HSM the mesh goes on, and so do new workloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hsm
from lab.errors import LabError
from lab.instance import Instance
from tests.lab.onprem.environment import GATEWAY, ROOT, Onprem, wait_for
from tests.lab.onprem.proxies import Proxy, proxies, running, served
from tests.lab.onprem.rotation import CATALOG, restart
from tests.lab.steady import SteadyRequests, webapp

pytestmark = pytest.mark.lab


@pytest.fixture
def away(onprem: Onprem) -> Iterator[None]:
    """Vault does not run, and the token is somewhere else."""
    tokens = hsm.configuration(onprem.lab).parent / "tokens"
    elsewhere = tokens.with_name("tokens-away")
    onprem.stop_vault()
    tokens.rename(elsewhere)
    yield
    elsewhere.rename(tokens)
    onprem.start_vault()


@pytest.mark.usefixtures("away")
def test_h5_the_mesh_and_new_workloads_go_on(onprem: Onprem, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot use the PKCS#11 module"):
        onprem.signed("2026", ROOT)
    done = onprem.up(check=False)
    assert done.returncode != 0
    assert "does not answer" in done.stdout + done.stderr
    before = catalogs(onprem)
    revision = onprem.config["meshgate:mesh"]["revision"]

    with SteadyRequests(webapp(onprem.stack, GATEWAY, tmp_path)) as requests:
        # The control plane too: it starts with the CA that is in the cluster.
        old = set(served(onprem.lab, revision).values())
        assert old
        restart(onprem.lab, {("istio-system", f"istiod-{revision}")})
        # An istiod that ends tells its proxies nothing more; those that are still its own would go on asking gone pods.
        wait_for("every proxy is served by the new istiod", lambda: all_served(onprem.lab, revision, old))
        restart(onprem.lab, {CATALOG})
        wait_for("only new catalogs", lambda: not {it.pod for it in catalogs(onprem)} & {it.pod for it in before})
        after = catalogs(onprem)
        counted = requests.count
        wait_for("requests to them", lambda: requests.count > counted + 20)

    assert {it.signer for it in after} == {it.signer for it in before}
    assert not {it.serial for it in after} & {it.serial for it in before}
    assert requests.failures == []


def all_served(lab: Instance, revision: str, old: set[str]) -> bool:
    """Whether every proxy is an istiod's, and none that of an old one."""
    now = served(lab, revision)
    return now.keys() == running(lab) and not old & set(now.values())


def catalogs(onprem: Onprem) -> list[Proxy]:
    """The sidecars of catalog, the last hop."""
    return [proxy for proxy in proxies(onprem.lab) if proxy.pod.startswith("istioinaction/catalog-")]
