"""onprem's own file with the real engine, a real Vault and an HSM token, on a bare control plane.

Its life, once: a Vault that is sealed, an `up` that makes the request, the signature, an `up` that makes the mesh, what
somebody changed in Vault, an update, and destroy, which leaves nothing in Vault either.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from cryptography import x509

from lab import authority, hsm, sim, vault
from lab import pulumi as runner
from lab.instance import Instance
from tests.deployment import CHECKOUT, DESTROY, UP, Stack, kubectl, stack_file, write_stack_file
from tests.engine.test_tls_plugin import decodings

# In soak: tests/lab/onprem takes the same way on the lab, from a sealed Vault to an empty one.
pytestmark = [pytest.mark.engine, pytest.mark.soak]

T = TypeVar("T")

RELEASE = "kubernetes:helm.sh/v3:Release"
MOUNT = "vault:index/mount:Mount"
POLICY = 'path "asm-c1/data/hsm" {\n  capabilities = ["read"]\n}\n'
IN_VAULT = {
    MOUNT: "asm-c1",
    "vault:index/policy:Policy": "asm-c1-hsm-policy",
    "vault:index/authBackend:AuthBackend": "asm-c1/hsm",
    "vault:kubernetes/authBackendConfig:AuthBackendConfig": "auth/asm-c1/hsm/config",
    "vault:kubernetes/authBackendRole:AuthBackendRole": "auth/asm-c1/hsm/role/istiod",
    "vault:generic/endpoint:Endpoint": "asm-c1/metadata/hsm",
}
"""Type -> id of what the stack makes there."""


def in_vault(instance: Instance, action: Callable[[Any], T]) -> T:
    """What an hvac client with the root token gives."""
    return vault.as_root(instance, vault.of(instance), action)


def read(instance: Instance, path: str) -> dict[str, Any]:
    """What is at a path in Vault."""
    data: dict[str, Any] = in_vault(instance, lambda client: client.read(path))["data"]
    return data


@pytest.fixture(scope="module")
def onprem(control_plane: Instance) -> Iterator[Stack]:
    stack = Stack(control_plane, "onprem", CHECKOUT / "Pulumi.onprem.yaml")
    yield stack
    stack.pulumi(*DESTROY, check=False)


@pytest.fixture(scope="module")
def requested(onprem: Stack, control_plane: Instance) -> dict[str, int]:
    """The first `up`, after one that found Vault sealed."""
    in_vault(control_plane, lambda client: client.sys.seal())
    done = onprem.pulumi(*UP, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "meshgate:authority.vault.address: " in said
    assert "is sealed: `vault operator unseal`, then run this again" in said
    assert "Traceback" not in said
    assert [one["type"] for one in onprem.resources()] in ([], ["pulumi:pulumi:Stack"]), "nothing is half-made"
    vault.unseal(control_plane, vault.of(control_plane))
    return onprem.changes(*UP)


@pytest.fixture(scope="module")
def deployed(onprem: Stack, requested: dict[str, int]) -> dict[str, int]:
    """The second `up`, with the chain that the HSM signed."""
    assert authority.sign(onprem.instance, onprem.name, onprem.config_file)
    return onprem.changes(*UP)


def test_the_first_up_makes_the_request_and_no_mesh(onprem: Stack, requested: dict[str, int]) -> None:
    # The stack itself is there since the first attempt.
    assert requested.keys() == {"create", "same"}
    assert requested["same"] == 1
    outputs = onprem.outputs()
    assert outputs["authority_status"] == "waiting for the signed chain"
    assert outputs["withheld"] == ["mesh", "egress", "teams", "ingress"]
    (generation,) = outputs["authority_generations"].items()
    assert (generation[0], generation[1]["status"]) == ("2026", "waiting")
    request = x509.load_pem_x509_csr(generation[1]["request"].encode())
    assert request.subject.rfc4514_string() == "CN=onprem mesh 2026,O=meshgate"
    secret = json.loads(
        kubectl(onprem.instance, "get", "secret", "-n", "istio-system", "-o", "json", "istio-ca-cert-csr")
    )
    assert base64.b64decode(secret["data"]["2026.pem"]).decode() == generation[1]["request"]
    resources = onprem.resources()
    assert not [one for one in resources if one["type"] == RELEASE]
    assert {one["type"]: one["id"] for one in resources if one["type"].startswith("vault:")} == IN_VAULT


def test_vault_holds_what_the_document_says(onprem: Stack, requested: dict[str, int]) -> None:
    instance = onprem.instance
    mount = read(instance, "sys/mounts/asm-c1")
    assert (mount["type"], mount["options"], mount["config"]["max_lease_ttl"]) == ("kv", {"version": "2"}, 87600 * 3600)
    assert read(instance, "sys/policies/acl/asm-c1-hsm-policy")["policy"] == POLICY
    config = read(instance, "auth/asm-c1/hsm/config")
    assert config["kubernetes_host"].startswith("https://")
    assert config["kubernetes_ca_cert"].startswith("-----BEGIN CERTIFICATE-----")
    assert config["token_reviewer_jwt_set"]
    role = read(instance, "auth/asm-c1/hsm/role/istiod")
    assert role["bound_service_account_names"] == ["istiod-asm-183-2"]
    assert role["bound_service_account_namespaces"] == ["istio-system"]
    assert (role["audience"], role["token_ttl"], role["token_policies"]) == ("vault", 768 * 3600, ["asm-c1-hsm-policy"])
    authority_of = kubectl(
        instance, "get", "configmap", "-n", "istio-system", "-o", r"jsonpath={.data.cert}", "vault-tls-cert"
    )
    assert authority_of == instance.vault_ca.read_text()


def test_the_second_up_makes_the_mesh(onprem: Stack, deployed: dict[str, int]) -> None:
    assert deployed["create"] > 20
    assert not {"delete", "replace"} & deployed.keys()
    outputs = onprem.outputs()
    assert outputs["authority_status"] == "signed"
    assert "withheld" not in outputs
    assert outputs["authority_generations"]["2026"]["status"] == "active"
    secret = json.loads(kubectl(onprem.instance, "get", "secret", "-n", "istio-system", "-o", "json", "cacerts"))
    pem = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    signer, root = (x509.load_pem_x509_certificate(pem[name]) for name in ("ca-cert.pem", "root-cert.pem"))
    signer.verify_directly_issued_by(root)
    assert x509.load_pem_x509_certificate(authority.make_root(onprem.instance).read_bytes()) == root
    releases = {one["outputs"]["name"] for one in onprem.resources() if one["type"] == RELEASE}
    assert {"istio-base", "istiod-asm-183-2"} <= releases, releases
    onprem.pulumi(*UP, "--expect-no-changes")


@pytest.mark.usefixtures("deployed")
def test_no_secret_is_in_the_state_in_clear(onprem: Stack) -> None:
    exported = decodings(onprem.export())
    assert "BEGIN CERTIFICATE REQUEST" in exported, "the search finds what is in clear"
    client = hsm.client_files(onprem.instance)
    secrets = {
        "the HSM client's PIN": client["PIN"].read_text().strip(),
        "the HSM client's key": client["clientkey"].read_text().strip(),
        "the token's PIN": hsm.pin(onprem.instance).read_text().strip(),
        "the deployer's token": vault.deployer_token(onprem.instance).read_text().strip(),
        "a private key": "PRIVATE KEY",
        "a token of a service account": "eyJhbGciOi",
    }
    assert [what for what, value in secrets.items() if value in exported] == []
    written = read(onprem.instance, "asm-c1/data/hsm")["data"]
    assert written["PIN"] == secrets["the HSM client's PIN"], "it is in Vault, where the operator wrote it"


def test_what_somebody_changed_in_vault_is_put_right(
    onprem: Stack, requested: dict[str, int], deployed: dict[str, int], tmp_path: Path
) -> None:
    instance = onprem.instance

    def tamper(client: Any) -> None:
        client.delete("auth/asm-c1/hsm/role/istiod")
        client.write_data(
            "sys/policies/acl/asm-c1-hsm-policy", data={"policy": POLICY.replace('"read"', '"read", "list"')}
        )
        client.write_data("sys/mounts/asm-c1/tune", data={"max_lease_ttl": "1h"})

    in_vault(instance, tamper)
    changed = runner.overlaid(stack_file("onprem"), yaml.safe_load(sim.CHANGES.read_text())["update"])
    after = Stack(instance, "onprem", write_stack_file(tmp_path, "onprem", changed))
    everything = sum(requested.values()) + deployed["create"]
    changes = after.changes(*UP, "--refresh")
    # The role; the policy, the mount and istiod.
    assert {**changes, "read": 0} == {"create": 1, "update": 3, "same": everything - 4, "read": 0}
    assert read(instance, "sys/policies/acl/asm-c1-hsm-policy")["policy"] == POLICY
    assert read(instance, "sys/mounts/asm-c1")["config"]["max_lease_ttl"] == 87600 * 3600
    assert read(instance, "auth/asm-c1/hsm/role/istiod")["audience"] == "vault"
    assert read(instance, "asm-c1/data/hsm")["data"], "what the operator wrote is still there"


@pytest.mark.usefixtures("deployed")
def test_destroy_leaves_nothing_in_vault(onprem: Stack, tmp_path: Path) -> None:
    said = onprem.pulumi(*DESTROY, check=False)
    assert said.returncode != 0
    assert "cannot be deleted" in said.stdout + said.stderr, "what must not be lost is protected"
    assert any(one["type"] == MOUNT for one in onprem.resources())
    given_up = runner.overlaid(stack_file("onprem"), yaml.safe_load(sim.CHANGES.read_text())["unprotect"])
    last = Stack(onprem.instance, "onprem", write_stack_file(tmp_path, "onprem", given_up))
    last.pulumi(*UP)
    last.pulumi(*DESTROY)
    assert last.resources() == []
    assert in_vault(onprem.instance, vault.left) == []
