"""What the mesh labs' sections mean for each other and for the other layers of a stack."""

from __future__ import annotations

import pytest

from settings import SettingsError, load, requires
from tests.unit.conftest import stack_file


def found(config: dict[str, object]) -> dict[str, str]:
    """What is wrong with the configuration: messages by key."""
    with pytest.raises(SettingsError) as caught:
        load(config)
    return {problem.key: problem.message for problem in caught.value.problems}


def test_gateways_have_names_of_their_own() -> None:
    """Istio's Gateway selects pods by their label, in every namespace."""
    dev = stack_file("dev")
    one = dev["edge"]["gateways"]["unlogged"]
    dev["edge"]["gateways"] |= {"sidecar-gateway": one, "bookinfo-gateway": one}
    message = "has the name of the gateway of {}; each would configure the other's pods: use another name"
    problems = found(dev)
    assert problems["edge.gateways.sidecar-gateway"] == message.format("sidecar")
    assert problems["edge.gateways.bookinfo-gateway"] == message.format("bookinfo")


def test_a_port_of_the_nodes_is_taken_once() -> None:
    dev = stack_file("dev")
    dev["bookinfo"]["gateway"]["service"]["nodePort"] = 30050
    assert found(dev) == {
        "bookinfo.gateway.service": "takes the nodes' port 30050, which sidecar.gateway.service has; use another one"
    }
    dev["bookinfo"]["gateway"]["service"]["nodePort"] = 30080
    assert found(dev) == {
        "bookinfo.gateway.service": "takes the nodes' port 30080, which ingress.gateways.mutual.service has; "
        "use another one"
    }
    # Any that is free is nobody's.
    del dev["bookinfo"]["gateway"]["service"]["nodePort"]
    del dev["sidecar"]["gateway"]["service"]["nodePort"]
    load(dev)


def test_namespaces_are_made_once() -> None:
    dev = stack_file("dev")
    dev["sidecar"]["gatewayNamespace"] = "bookinfo-ingress"
    assert found(dev) == {
        "bookinfo.gatewayNamespace": "'bookinfo-ingress' is sidecar.gatewayNamespace too; "
        "each needs a namespace of its own"
    }


@pytest.mark.parametrize("layer", ["sidecar", "bookinfo", "rate_limit", "peer_authentication", "observability"])
def test_without_a_mesh(layer: str) -> None:
    """A lab needs the mesh, in its stack or in another one."""
    assert requires(layer, {"kind": ""}) == ("cluster", "mesh")  # type: ignore[arg-type]


def test_what_needs_no_mesh() -> None:
    assert requires("standalone_envoy", {}) == ("cluster",)
    assert requires("bookinfo", {"step": "no-mesh"}) == ("cluster",)
    assert requires("bookinfo", {"step": "no-rules"}) == ("cluster", "mesh")


def test_limits_need_a_mesh_that_applies_them() -> None:
    dev = stack_file("dev")
    dev["istio"] = {"version": "1.27.3"}
    assert set(found(dev)) == {"istio.version"}
    managed = stack_file("dev") | {"mesh": {"kind": "managed"}}
    assert "needs EnvoyFilters" in found(managed)["rate_limit"]


def test_spans_need_a_mesh_that_knows_where_to() -> None:
    dev = stack_file("dev")
    dev["mesh"]["tracing"]["service"] = "jaeger.elsewhere.svc.cluster.local"
    assert set(found(dev)) == {"mesh.tracing.service"}
    del dev["mesh"]["tracing"]
    assert set(found(dev)) == {"mesh.tracing"}
    # Without spans there is nothing to send.
    del dev["observability"]["tracing"]
    load(dev)
