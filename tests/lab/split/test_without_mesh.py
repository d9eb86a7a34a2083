"""The mesh is removed from below Bookinfo: its workloads serve on without sidecars, and of Istio only the CRDs stay."""

from __future__ import annotations

import json

import pytest

from lab.instance import Instance
from settings.bookinfo import NO_MESH
from tests.deployment import Stack, kubectl
from tests.lab.left import left
from tests.lab.outcomes import verify
from tests.lab.split.conftest import BOOKINFO, Split

pytestmark = pytest.mark.lab

MESH = "dev-mesh"


@pytest.fixture(scope="module")
def bookinfo(stacks: Split) -> Stack:
    """Without the mesh, which is gone, as are the scenarios above it."""
    bookinfo = stacks.bookinfo(NO_MESH)
    above = stacks.deployed[stacks.deployed.index(MESH) + 1 :]
    for name in reversed([name for name in above if name != BOOKINFO]):
        stacks.destroy(name)
    mesh = stacks.deploy(MESH).resources()
    stacks.destroy(MESH)
    assert left(stacks.lab, mesh) == []
    return bookinfo


def test_the_workloads_serve_on_without_sidecars(bookinfo: Stack, lab: Instance) -> None:
    outcomes = verify(bookinfo)
    assert outcomes.failed() == []
    assert outcomes.rows() == {"B3"}
    pods = json.loads(kubectl(lab, "get", "pods", "--all-namespaces", "-o", "json"))["items"]
    names = {container["name"] for pod in pods for container in _containers(pod)}
    assert "productpage" in names
    assert "istio-proxy" not in names


def _containers(pod: dict[str, dict[str, list[dict[str, str]]]]) -> list[dict[str, str]]:
    return [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]


@pytest.mark.usefixtures("bookinfo")
def test_no_object_of_istio_is_left_but_its_crds(lab: Instance) -> None:
    found = json.loads(kubectl(lab, "get", "customresourcedefinitions", "-o", "json"))["items"]
    definitions = {crd["metadata"]["name"]: crd for crd in found if crd["spec"]["group"].endswith(".istio.io")}
    # As the chart asks Helm; without them every Istio object of the cluster, also other people's, would be gone.
    assert "virtualservices.networking.istio.io" in definitions
    policies = [crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in definitions.values()]
    assert set(policies) == {"keep"}
    assert kubectl(lab, "get", ",".join(definitions), "--all-namespaces", "-o", "name") == ""


@pytest.mark.usefixtures("bookinfo")
def test_nothing_asks_for_a_mesh_any_more(lab: Instance) -> None:
    admission = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies"
    assert "istio" not in kubectl(lab, "get", admission, "-o", "name")
    namespaces = json.loads(kubectl(lab, "get", "namespaces", "-o", "json"))["items"]
    labels = [label for namespace in namespaces for label in namespace["metadata"].get("labels", {})]
    assert [label for label in labels if "istio" in label] == []
