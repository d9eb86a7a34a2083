"""The vendor's patched istiod (H8): every value of the document, the containers beside istiod, and how it waits."""

from __future__ import annotations

from typing import Any

import pytest

from components.mesh.hsm_kms import kms_values
from settings.authority import HsmKmsAuthority
from tests.unit import mesh_ca
from tests.unit.program import UPSTREAM, Program, run

AUTHORITY: dict[str, Any] = {
    "kind": "hsm-kms",
    "istiodImage": "gcr.io/gke-release/asm/pilot:1.8.3-asm.2-hsm",
    "pluginImage": "gcr.io/thalescpl-io-k8s-kms-plugin/hsm-plugin:asm-1.7-1",
    "vaultClientImage": "gcr.io/gke-release/asm/vaultclient:latest",
    "slotLabel": "asm-slot",
    "kekId": "7651a4ea-eeb7-4c1f-927b-8c871c2127aa",
    "clientConfig": "Chrystoki2 = {\n}\n",
    "vault": {
        "address": "https://10.7.0.2:8200",
        "ca": "/dev/null",
        "mount": "asm-c1",
        "kvVersion": 1,
        "serviceAccounts": ["istiod-asm-183-2"],
        "kubernetesHost": "https://10.5.0.2:6443",
    },
}
DOCUMENT: dict[str, Any] = {
    "jwtPath": "/var/run/secrets/kubernetes.io/serviceaccount/token",
    "jwtPolicy": "first-party-jwt",
}
"""What the document says where the default is another."""


def values(**changes: Any) -> dict[str, Any]:
    """Those of the kind, on top of every istiod's."""
    return kms_values(HsmKmsAuthority.model_validate({**AUTHORITY, **changes}))


def container(name: str, **changes: Any) -> dict[str, Any]:
    """One of those beside istiod."""
    return next(one for one in values(**changes)["initContainers"] if one["name"] == name)


def env(given: dict[str, Any]) -> dict[str, str]:
    """A container's environment."""
    return {entry["name"]: entry["value"] for entry in given["env"]}


@pytest.fixture(params=[None, "chain"], ids=["waiting", "signed"])
def program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Program:
    """CA, mesh and a gateway in one stack, before and after the CA is signed."""
    monkeypatch.setattr("components.authority.preflight.preflight", lambda _: [])
    return stack({"chain": mesh_ca.chain("istiod")} if request.param else {})


def stack(authority: dict[str, Any], **mesh: Any) -> Program:
    """A program with the kind and a mesh."""
    config = {
        "name": "prod",
        "layers": ["authority", "mesh", "external"],
        "upstream": {"cluster": "base"},
        "authority": {**AUTHORITY, **authority},
        "mesh": {"revision": "asm-183-2", **mesh},
        "external": {"prefix": "steps"},
    }
    return run(config, stack="prod", references={"base": UPSTREAM})


def test_values_of_the_document() -> None:
    given = values(**DOCUMENT)
    assert given["hsm"] == {
        "enabled": True,
        "hsmKEKID": "7651a4ea-eeb7-4c1f-927b-8c871c2127aa",
        "hsmPluginImage": "gcr.io/thalescpl-io-k8s-kms-plugin/hsm-plugin:asm-1.7-1",
        "hsmSlotLabel": "asm-slot",
        "vaultClientImage": "gcr.io/gke-release/asm/vaultclient:latest",
        "vaultAddr": "https://10.7.0.2:8200",
        "vaultAuthPath": "auth/asm-c1/hsm/login",
        "vaultAuthRole": "istiod",
        "vaultAuthJwtPath": "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "vaultSecretPath": "asm-c1/hsm",
    }
    assert given["global"] == {"jwtPolicy": "first-party-jwt"}
    assert given["image"] == "gcr.io/gke-release/asm/pilot:1.8.3-asm.2-hsm"


def test_kv_version_2_has_the_secret_elsewhere() -> None:
    vault = {**AUTHORITY["vault"], "kvVersion": 2}
    assert values(vault=vault)["hsm"]["vaultSecretPath"] == "asm-c1/data/hsm"
    assert env(container("vault-client", vault=vault))["VAULT_SECRET_PATH"] == "asm-c1/data/hsm"


def test_plugin_has_its_slot_key_and_configuration() -> None:
    plugin = container("hsm-plugin")
    assert plugin["image"] == "gcr.io/thalescpl-io-k8s-kms-plugin/hsm-plugin:asm-1.7-1"
    assert env(plugin) == {
        "P11_TOKEN": "asm-slot",
        "P11_PIN_FILE": "/var/run/hsm-credential/pin",
        "ChrystokiConfigurationPath": "/etc/hsm-client",
        "SOCKET": "/var/run/hsm-socket/.sock",
        "KEK_ID": "7651a4ea-eeb7-4c1f-927b-8c871c2127aa",
    }
    assert plugin["volumeMounts"] == [
        {"name": "hsm-socket", "mountPath": "/var/run/hsm-socket"},
        {"name": "hsm-credential", "mountPath": "/var/run/hsm-credential", "readOnly": True},
        {"name": "hsm-client-config", "mountPath": "/etc/hsm-client", "readOnly": True},
    ]


def test_vault_client_proves_who_it_is_and_whom_it_asks() -> None:
    client = container("vault-client")
    assert client["image"] == "gcr.io/gke-release/asm/vaultclient:latest"
    assert env(client) == {
        "VAULT_ADDR": "https://10.7.0.2:8200",
        "VAULT_CACERT": "/var/run/vault-tls-cert/cert",
        "VAULT_AUTH_PATH": "auth/asm-c1/hsm/login",
        "VAULT_AUTH_ROLE": "istiod",
        "VAULT_AUTH_JWT_PATH": "/var/run/secrets/vault/token",
        "VAULT_SECRET_PATH": "asm-c1/hsm",
    }
    assert client["volumeMounts"] == [
        {"name": "hsm-credential", "mountPath": "/var/run/hsm-credential"},
        {"name": "vault-tls-cert", "mountPath": "/var/run/vault-tls-cert", "readOnly": True},
        {"name": "vault-token", "mountPath": "/var/run/secrets/vault", "readOnly": True},
    ]


def test_volumes() -> None:
    given = values()
    assert given["volumes"] == [
        {"name": "hsm-socket", "emptyDir": {}},
        {"name": "hsm-credential", "emptyDir": {"medium": "Memory"}},
        {"name": "hsm-client-config", "configMap": {"name": "hsm-client-config"}},
        {"name": "vault-tls-cert", "configMap": {"name": "vault-tls-cert"}},
        {
            "name": "vault-token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "token"}},
                ]
            },
        },
    ]
    # istiod itself gets the socket, and neither the PIN nor the client's key.
    assert given["volumeMounts"] == [{"name": "hsm-socket", "mountPath": "/var/run/hsm-socket"}]


def test_the_pods_own_token_needs_no_mount() -> None:
    given = values(**DOCUMENT)
    assert "vault-token" not in str(given)
    assert env(container("vault-client", **DOCUMENT))["VAULT_AUTH_JWT_PATH"] == DOCUMENT["jwtPath"]


def test_both_run_beside_istiod_without_privileges() -> None:
    """Three containers: native sidecars are ready when they run, istiod when it has its chain."""
    beside = values()["initContainers"]
    assert [one["name"] for one in beside] == ["vault-client", "hsm-plugin"]
    for one in beside:
        assert one["restartPolicy"] == "Always"
        assert one["securityContext"] == {
            "runAsGroup": 1337,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_mounted_volumes_are_there() -> None:
    for changes in ({}, DOCUMENT):
        given = values(**changes)
        there = {volume["name"] for volume in given["volumes"]}
        mounts = [mount for one in given["initContainers"] for mount in one["volumeMounts"]] + given["volumeMounts"]
        assert {mount["name"] for mount in mounts} == there


# In the stack


def test_istiod_has_them(program: Program) -> None:
    istiod = program.one("prod-mesh-istiod-asm-183-2").inputs
    given = istiod["values"]
    assert given["image"] == AUTHORITY["istiodImage"]
    assert given["hsm"]["hsmSlotLabel"] == "asm-slot"
    # Beside what every istiod has.
    assert given["global"]["jwtPolicy"] == "third-party-jwt"
    assert given["global"]["istioNamespace"] == "istio-system"
    assert given["meshConfig"]["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}
    # The account that Vault's role lets in.
    assert istiod["name"] == "istiod-asm-183-2"
    assert program.one("prod-authority-vault-role").inputs["boundServiceAccountNames"] == ["istiod-asm-183-2"]


def test_nothing_waits_for_an_istiod_that_waits_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.authority.preflight.preflight", lambda _: [])
    waiting, signed = stack({}), stack({"chain": mesh_ca.chain("istiod")})
    name = "prod-mesh-istiod-asm-183-2"
    assert waiting.one(name).inputs["skipAwait"] is True
    assert "skipAwait" not in signed.one(name).inputs
    # What istiod would have to admit, inject or configure comes with the chain.
    assert [one.name for one in waiting.resources if one.type.endswith((":PeerAuthentication", "Configuration"))] == []
    assert [one.name for one in signed.of(":PeerAuthentication")] == ["prod-mesh-strict"]
    assert [one.name for one in signed.of(":MutatingWebhookConfiguration")] == ["prod-mesh-tag-stable"]
    assert waiting.outputs["withheld"] == ["external"]
    assert [one.name for one in waiting.resources if one.name.startswith("prod-external")] == []
    assert "withheld" not in signed.outputs


def test_service_does_not_wait_for_it(program: Program) -> None:
    service = program.one("prod-mesh-istiod").inputs
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}
