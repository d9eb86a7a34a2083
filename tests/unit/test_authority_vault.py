"""The HSM client's credentials in Vault: what is asked before, and which resources there are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.authority.preflight import preflight
from settings.authority import VaultSettings
from tests.unit import fake_vault
from tests.unit.fake_vault import TOKEN, FakeVault
from tests.unit.program import UPSTREAM, Program, run

WRITTEN = [
    "sys/mounts/asm-c1",
    "sys/policies/acl/asm-c1-hsm-policy",
    "sys/auth/asm-c1/hsm",
    "auth/asm-c1/hsm/config",
    "auth/asm-c1/hsm/role/istiod",
]
KUBECONFIG = yaml.safe_dump({"clusters": [{"name": "base", "cluster": {"server": "https://10.5.0.2:6443"}}]})


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVault]:
    """A Vault whose token the operator has."""
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    monkeypatch.setenv("HOME", str(tmp_path))
    with fake_vault.fake_vault(tmp_path) as vault:
        yield vault


def section(vault: FakeVault, **values: Any) -> dict[str, Any]:
    """authority.vault, with the document's names."""
    return {**vault.settings, "mount": "asm-c1", "serviceAccounts": ["istiod-asm-183-2"], **values}


def asked(vault: FakeVault, **values: Any) -> list[tuple[str, str]]:
    """What the preflight finds, by key."""
    problems = preflight(VaultSettings.model_validate(section(vault, **values)))
    return [(problem.key, problem.message) for problem in problems]


def test_vault_that_is_ready(vault: FakeVault) -> None:
    assert asked(vault) == []
    assert vault.asked == [*WRITTEN, "asm-c1/metadata/hsm"]
    assert asked(vault, kvVersion=1) == []
    assert vault.asked == WRITTEN


def test_standby_is_fine(vault: FakeVault) -> None:
    vault.health = {"initialized": True, "sealed": False, "standby": True}
    assert asked(vault) == []


def test_token_file_is_fine(vault: FakeVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    (tmp_path / ".vault-token").write_text(TOKEN)
    assert asked(vault) == []


def test_sealed(vault: FakeVault) -> None:
    vault.health = {"initialized": True, "sealed": True}
    address = vault.settings["address"]
    assert asked(vault) == [("address", f"Vault at {address} is sealed: `vault operator unseal`, then run this again")]


def test_not_initialized(vault: FakeVault) -> None:
    vault.health = {"initialized": False, "sealed": True}
    address = vault.settings["address"]
    assert asked(vault) == [
        ("address", f"Vault at {address} is not initialized: `vault operator init`, then unseal it")
    ]


def test_token_is_missing(vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    address = vault.settings["address"]
    assert asked(vault) == [("address", f"there is no token for Vault at {address}: `vault login`, or set VAULT_TOKEN")]


def test_token_is_refused_and_not_repeated(vault: FakeVault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.expired")
    ((key, message),) = asked(vault)
    assert key == "address"
    assert message.startswith(
        f"Vault at {vault.settings['address']} refuses the token (VAULT_TOKEN or ~/.vault-token): it has expired"
    )
    assert "hvs." not in message


@pytest.mark.parametrize(
    ("path", "capabilities"),
    [
        ("sys/mounts/asm-c1", ["deny"]),
        ("sys/policies/acl/asm-c1-hsm-policy", ["read"]),
        # Without sudo an auth method is not enabled.
        ("sys/auth/asm-c1/hsm", ["create", "delete", "read", "update"]),
        ("auth/asm-c1/hsm/role/istiod", ["update"]),
    ],
)
def test_token_may_not_write(vault: FakeVault, path: str, capabilities: list[str]) -> None:
    vault.capabilities = {path: capabilities}
    address = vault.settings["address"]
    assert asked(vault) == [
        (
            "address",
            f"the token for Vault at {address} may not write to {path}; "
            "docs/environments/onprem.md has the policy that it needs",
        )
    ]


def test_root_may_everything(vault: FakeVault) -> None:
    vault.capabilities = {path: ["root"] for path in [*WRITTEN, "asm-c1/metadata/hsm"]}
    assert asked(vault) == []


def test_ca_is_missing(vault: FakeVault, tmp_path: Path) -> None:
    path = tmp_path / "nothing.pem"
    assert asked(vault, ca=str(path)) == [
        ("ca", f"{path}: No such file or directory; it takes the file of the CA of Vault's certificate")
    ]


def test_ca_is_none(vault: FakeVault, tmp_path: Path) -> None:
    path = tmp_path / "words.pem"
    path.write_text("words")
    assert asked(vault, ca=str(path)) == [("ca", f"{path}: does not hold certificates in PEM")]


def test_another_ca(vault: FakeVault, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with fake_vault.fake_vault(tmp_path / "other") as other:
        ((key, message),) = asked(vault, ca=str(other.ca))
    assert key == "ca"
    assert f"does not vouch for Vault at {vault.settings['address']}" in message
    assert "certificate verify failed" in message
    assert vault.asked == []


def test_unreachable(vault: FakeVault) -> None:
    vault.server.shutdown()
    vault.server.server_close()
    ((key, message),) = asked(vault)
    assert key == "address"
    assert message.startswith(f"Vault at {vault.settings['address']} does not answer: ")
    assert "Connection refused" in message


@pytest.mark.parametrize(("status", "health"), [(200, ["nginx"]), (404, {"errors": []}), (200, {"status": "ok"})])
def test_something_else(vault: FakeVault, status: int, health: object) -> None:
    vault.health_status, vault.health = status, health
    assert asked(vault) == [("address", f"Vault at {vault.settings['address']} does not answer as Vault does")]


def program(vault: FakeVault, *, protect: bool = True, preview: bool = False, **values: Any) -> Program:
    """The layer alone, on a cluster of another stack; its CA waits."""
    config = {
        "name": "prod",
        "layers": ["authority"],
        "upstream": {"cluster": "base"},
        "protect": protect,
        "authority": {"kind": "hsm", "generations": [{"name": "2026"}], "vault": section(vault, **values)},
    }
    references = {"base": {**UPSTREAM, "cluster_kubeconfig": KUBECONFIG}}
    return run(config, stack="prod", references=references, secret_outputs=["cluster_kubeconfig"], preview=preview)


def test_problems_stop_the_program(vault: FakeVault) -> None:
    from settings import SettingsError

    vault.health = {"initialized": True, "sealed": True}
    with pytest.raises(SettingsError, match=r"meshgate:authority\.vault\.address: Vault at \S+ is sealed"):
        program(vault)


def test_secrets_engine(vault: FakeVault) -> None:
    found = program(vault, maxLeaseHours=87600)
    mount = found.one("prod-authority-vault-mount")
    assert mount.inputs == {
        "path": "asm-c1",
        "type": "kv",
        "options": {"version": "2"},
        "maxLeaseTtlSeconds": 315360000,
        "description": "Credentials of the mesh CA's HSM client",
    }
    metadata = found.one("prod-authority-vault-metadata")
    assert metadata.inputs["path"] == "asm-c1/metadata/hsm"
    assert json.loads(metadata.inputs["dataJson"]) == {"max_versions": 2}
    assert metadata.inputs["disableDelete"] is True
    assert "prod-authority-vault-mount" in metadata.dependencies
    assert mount.provider == metadata.provider == "prod-vault"


def test_documents_secrets_engine(vault: FakeVault) -> None:
    """kv of version 1, as the document enables it, has no metadata, and another path in the policy."""
    found = program(vault, kvVersion=1)
    assert found.one("prod-authority-vault-mount").inputs["options"] == {"version": "1"}
    assert found.of("generic/endpoint:Endpoint") == []
    assert found.one("prod-authority-vault-policy").inputs["policy"] == (
        'path "asm-c1/hsm" {\n  capabilities = ["read"]\n}\n'
    )


def test_policy_reads_the_secret_alone(vault: FakeVault) -> None:
    assert program(vault).one("prod-authority-vault-policy").inputs == {
        "name": "asm-c1-hsm-policy",
        "policy": 'path "asm-c1/data/hsm" {\n  capabilities = ["read"]\n}\n',
    }


def test_auth_method(vault: FakeVault) -> None:
    found = program(vault, tokenTtlHours=768)
    backend = found.one("prod-authority-vault-auth").inputs
    assert (backend["type"], backend["path"]) == ("kubernetes", "asm-c1/hsm")
    config = found.one("prod-authority-vault-config")
    assert config.inputs == {
        "backend": "asm-c1/hsm",
        "kubernetesHost": "https://10.5.0.2:6443",
        "kubernetesCaCert": "<CA of the cluster>",
        "tokenReviewerJwt": "<token prod-authority-vault-reviewer-token>",
        "disableLocalCaJwt": True,
        "disableIssValidation": True,
    }
    assert config.secrets == {"tokenReviewerJwt"}
    assert found.one("prod-authority-vault-role").inputs == {
        "backend": "asm-c1/hsm",
        "roleName": "istiod",
        "boundServiceAccountNames": ["istiod-asm-183-2"],
        "boundServiceAccountNamespaces": ["istio-system"],
        "audience": "vault",
        "tokenPolicies": ["asm-c1-hsm-policy"],
        "tokenTtl": 768 * 3600,
        "tokenMaxTtl": 768 * 3600,
    }


def test_api_server_as_vault_reaches_it(vault: FakeVault) -> None:
    found = program(vault, kubernetesHost="https://k8s.example.com:6443")
    assert found.one("prod-authority-vault-config").inputs["kubernetesHost"] == "https://k8s.example.com:6443"


def test_token_reviewer(vault: FakeVault) -> None:
    found = program(vault, reviewerNamespace="vault-c1")
    assert found.one("prod-authority-vault-reviewer-namespace").inputs["metadata"] == {"name": "vault-c1"}
    account = found.one("prod-authority-vault-reviewer-account").inputs
    assert account["metadata"] == {"name": "vault-reviewer", "namespace": "vault-c1"}
    assert account["automountServiceAccountToken"] is False
    binding = found.one("prod-authority-vault-reviewer-binding")
    assert binding.type == "kubernetes:rbac.authorization.k8s.io/v1:ClusterRoleBinding"
    assert binding.inputs["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": "system:auth-delegator",
    }
    assert binding.inputs["subjects"] == [{"kind": "ServiceAccount", "name": "vault-reviewer", "namespace": "vault-c1"}]
    token = found.one("prod-authority-vault-reviewer-token")
    assert token.inputs["type"] == "kubernetes.io/service-account-token"
    assert token.inputs["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "vault-reviewer"}
    assert "prod-authority-vault-reviewer-binding" in token.dependencies


def test_control_plane_gets_vaults_ca(vault: FakeVault) -> None:
    config_map = program(vault).one("prod-authority-vault-ca")
    assert config_map.inputs["metadata"] == {"name": "vault-tls-cert", "namespace": "istio-system"}
    assert config_map.inputs["data"] == {"cert": vault.ca.read_text()}


def test_provider_verifies_vault_and_keeps_no_token(vault: FakeVault) -> None:
    provider = program(vault).one("prod-vault").inputs
    assert (provider["address"], provider["caCertFile"]) == (vault.settings["address"], vault.settings["ca"])
    assert provider["skipTlsVerify"] in (False, "false")
    assert "token" not in provider
    assert TOKEN not in str(program(vault).resources)


def test_secrets_engine_is_protected(vault: FakeVault) -> None:
    assert program(vault).one("prod-authority-vault-mount").protect is True
    assert program(vault, protect=False).one("prod-authority-vault-mount").protect is False


def test_preview_before_the_token_is_there(vault: FakeVault) -> None:
    """The cluster fills the Secret only when it is made."""
    config = program(vault, preview=True).one("prod-authority-vault-config")
    assert config.inputs["tokenReviewerJwt"] == ""


def test_no_secret_value_is_a_resource(vault: FakeVault) -> None:
    """clientcert, clientkey, servercert and PIN are written by an operator's command."""
    kinds = {resource.type for resource in program(vault).resources if resource.type.startswith("vault:")}
    assert kinds == {
        "vault:index/mount:Mount",
        "vault:index/policy:Policy",
        "vault:index/authBackend:AuthBackend",
        "vault:generic/endpoint:Endpoint",
        "vault:kubernetes/authBackendConfig:AuthBackendConfig",
        "vault:kubernetes/authBackendRole:AuthBackendRole",
    }


def test_documents_own_names(onprem_program: Program) -> None:
    """The example environment has the document's mount, lease, policy, role and lifetime."""
    mount = onprem_program.one("onprem-authority-vault-mount").inputs
    assert (mount["path"], mount["maxLeaseTtlSeconds"]) == ("asm-c1", 87600 * 3600)
    assert onprem_program.one("onprem-authority-vault-policy").inputs["name"] == "asm-c1-hsm-policy"
    assert onprem_program.one("onprem-authority-vault-auth").inputs["path"] == "asm-c1/hsm"
    role = onprem_program.one("onprem-authority-vault-role").inputs
    assert (role["roleName"], role["tokenTtl"]) == ("istiod", 768 * 3600)
    assert role["boundServiceAccountNames"] == ["istiod-asm-183-2"]
    assert role["boundServiceAccountNamespaces"] == ["istio-system"]
    assert onprem_program.one("onprem-authority-vault-reviewer-namespace").inputs["metadata"] == {"name": "vault"}
