"""H5: without Vault and without the HSM the mesh goes on, and so do new workloads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import hsm
from lab.errors import LabError
from tests.deployment import kubectl
from tests.lab.onprem.environment import GATEWAY, ROOT, Onprem, wait_for
from tests.lab.onprem.proxies import Proxy, proxies
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

    with SteadyRequests(webapp(onprem.stack, GATEWAY, tmp_path)) as requests:
        # The control plane too: it starts with the CA that is in the cluster.
        for where in (("-n", "istio-system", "-l", "app=istiod"), ("-n", "istioinaction", "-l", "app=catalog")):
            kubectl(onprem.lab, "rollout", "restart", "deploy", *where)
            kubectl(onprem.lab, "rollout", "status", "deploy", *where, "--timeout=120s")
        wait_for("only new catalogs", lambda: not {it.pod for it in catalogs(onprem)} & {it.pod for it in before})
        after = catalogs(onprem)
        counted = requests.count
        wait_for("requests to them", lambda: requests.count > counted + 20)

    assert {it.signer for it in after} == {it.signer for it in before}
    assert not {it.serial for it in after} & {it.serial for it in before}
    assert requests.failures == []


def catalogs(onprem: Onprem) -> list[Proxy]:
    """The sidecars of catalog, the last hop."""
    return [proxy for proxy in proxies(onprem.lab) if proxy.pod.startswith("istioinaction/catalog-")]
