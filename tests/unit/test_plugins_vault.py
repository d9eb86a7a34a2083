"""The stand-in for Vault's provider: what it takes, refuses and compares. What a real Vault does: tests/engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import (
    CheckRequest,
    ConfigureRequest,
    CreateRequest,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    InvokeRequest,
    PropertyDiffKind,
    ReadRequest,
    UpdateRequest,
)
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins import guard, sdk, vault
from lab.plugins.base import PluginError, Unfinished, plain_map, wire
from lab.plugins.hashicorp import client, kind
from lab.plugins.hashicorp.kind import seconds

MOUNT = "vault:index/mount:Mount"
AUTH = "vault:index/authBackend:AuthBackend"
POLICY = "vault:index/policy:Policy"
TOKEN = "vault:index/token:Token"
CONFIG = "vault:kubernetes/authBackendConfig:AuthBackendConfig"
ROLE = "vault:kubernetes/authBackendRole:AuthBackendRole"
SECRET = "vault:kv/secret:Secret"
SECRET_V2 = "vault:kv/secretV2:SecretV2"
ENDPOINT = "vault:generic/endpoint:Endpoint"
PKI_ROLE = "vault:pkiSecret/secretBackendRole:SecretBackendRole"
CERT = "vault:pkiSecret/secretBackendCert:SecretBackendCert"

ACCOUNTS = {"boundServiceAccountNames": ["a", "b"], "boundServiceAccountNamespaces": ["n"]}


class Fake:
    """As much of a Vault as keeps what is written."""

    address = "https://vault.example:8200"

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}
        self.written: list[tuple[str, dict[str, Any]]] = []
        self.sealed_after = 1000
        self.deleted: list[str] = []

    def read(self, path: str) -> dict[str, Any] | None:
        self._ask()
        return self.kept.get(path)

    def write(self, path: str, data: Mapping[str, Any], wrap_ttl: str | None = None) -> dict[str, Any]:
        self._ask()
        self.written.append((path, dict(data)))
        self.kept.setdefault(path, {}).update(data)
        return {}

    def delete(self, path: str) -> None:
        self._ask()
        self.deleted.append(path)

    def _ask(self) -> None:
        self.sealed_after -= 1
        if self.sealed_after < 0:
            raise PluginError("it is sealed")


class Plugin:
    """The plugin as the engine uses it, one method a request, with plain inputs."""

    def __init__(self) -> None:
        self.provider = vault.plugin()
        self.vault = Fake()
        self.provider._vault = self.vault  # type: ignore[assignment]

    def urn(self, type_: str) -> str:
        return f"urn:pulumi:test::test::meshgate:a:Parent${type_}::it"

    def check(self, type_: str, **inputs: Any) -> list[str]:
        request = CheckRequest(self.urn(type_), {}, wired(inputs), b"seed")
        return [failure.reason for failure in asyncio.run(self.provider.check(request)).failures or []]

    def create(self, type_: str, /, **inputs: Any) -> tuple[str | None, dict[str, Any]]:
        return self._create(type_, inputs, preview=False)

    def preview(self, type_: str, /, **inputs: Any) -> tuple[str | None, dict[str, Any]]:
        return self._create(type_, inputs, preview=True)

    def _create(self, type_: str, inputs: dict[str, Any], *, preview: bool) -> tuple[str | None, dict[str, Any]]:
        assert self.check(type_, **inputs) == []
        response = asyncio.run(self.provider.create(CreateRequest(self.urn(type_), wired(inputs), 0, preview)))
        return response.resource_id, plain_map(response.properties)

    def diff(self, type_: str, state: dict[str, Any], id_: str = "id", **inputs: Any) -> DiffResponse:
        request = DiffRequest(self.urn(type_), id_, wired(state), wired(inputs), [])
        return asyncio.run(self.provider.diff(request))

    def update(self, type_: str, id_: str, state: dict[str, Any], **inputs: Any) -> dict[str, Any]:
        request = UpdateRequest(self.urn(type_), id_, wired(state), wired(inputs), 0, [], False)
        return plain_map(asyncio.run(self.provider.update(request)).properties)


def wired(values: Mapping[str, Any]) -> dict[str, PropertyValue]:
    return {name: wire(value) for name, value in values.items()}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    backend = tmp_path / "unit" / "state"
    backend.mkdir(parents=True)
    guard.mark(backend)
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    monkeypatch.setenv("MESHGATE_LAB", "unit")
    monkeypatch.setenv("PULUMI_BACKEND_URL", backend.as_uri())
    return Plugin()


# --- the table ---


@pytest.mark.parametrize("type_", vault.KINDS)
def test_every_property_that_is_spoken_of_is_the_sdks(type_: str) -> None:
    one, outputs = vault.KINDS[type_], sdk.outputs(type_)
    inputs = sdk.inputs(type_)
    named = {*one.defaults, *one.computed, *one.write_only, *one.unordered, *one.durations, *one.json}
    assert named | set(one.taken_over) | set(one.replaced_by) - {"*"} <= inputs.keys()
    assert set(one.secret) <= outputs.keys()
    for name in sdk.always(sdk.resource(type_)) - {*one.defaults, "customMetadata", "tune"}:
        assert kind.zero(type_, name) in ("", False, 0.0, [], {})


@pytest.mark.parametrize(
    ("type_", "inputs", "id_"),
    [
        (MOUNT, {"path": "asm-c1", "type": "kv"}, "asm-c1"),
        (AUTH, {"path": "asm-c1/hsm", "type": "kubernetes"}, "asm-c1/hsm"),
        (AUTH, {"type": "kubernetes"}, "kubernetes"),
        (POLICY, {"name": "reader", "policy": "..."}, "reader"),
        (CONFIG, {"backend": "asm-c1/hsm/", "kubernetesHost": "h"}, "auth/asm-c1/hsm/config"),
        (CONFIG, {"kubernetesHost": "h"}, "auth/kubernetes/config"),
        (ROLE, {"backend": "asm-c1/hsm", "roleName": "istiod"}, "auth/asm-c1/hsm/role/istiod"),
        (SECRET, {"path": "kv/hsm"}, "kv/hsm"),
        (SECRET_V2, {"mount": "kv/", "name": "hsm"}, "kv/data/hsm"),
        (PKI_ROLE, {"backend": "pki", "name": "servers"}, "pki/roles/servers"),
        (TOKEN, {}, None),
        (CERT, {"backend": "pki"}, None),
        ("kubernetes:core/v1:Secret", {}, None),
    ],
)
def test_ids_that_follow_from_the_inputs(type_: str, inputs: dict[str, Any], id_: str | None) -> None:
    assert vault.known_id(type_, inputs) == id_


# --- what is taken ---


@pytest.mark.parametrize(
    ("type_", "inputs", "problems"),
    [
        (MOUNT, {"path": "kv", "type": "kv", "options": {"version": "2"}, "maxLeaseTtlSeconds": 60.0}, []),
        (MOUNT, {"path": UNKNOWN, "type": "kv"}, []),
        (MOUNT, {"path": "kv"}, ["type is required by Mount"]),
        (MOUNT, {"path": "kv", "type": "kv", "maxLease": 1.0}, ["maxLease is not a property of Mount"]),
        (
            MOUNT,
            {"path": "kv", "type": "kv", "maxLeaseTtlSeconds": "1h"},
            ["maxLeaseTtlSeconds must be a whole number"],
        ),
        (MOUNT, {"path": "/kv", "type": "kv"}, ["path is '/kv', but must neither begin nor end with a slash"]),
        (MOUNT, {"path": "kv", "type": "kv", "namespace": "a"}, ["namespace needs Vault Enterprise"]),
        (AUTH, {"type": "kubernetes", "tune": {"maxLeaseTtl": "soon"}}, ["tune.maxLeaseTtl is no duration"]),
        (POLICY, {"name": "Reader", "policy": "#"}, ["name is 'Reader', which Vault would call 'reader'"]),
        (CONFIG, {"kubernetesHost": "h", "tokenReviewerJwtWo": "s3cret"}, ["tokenReviewerJwtWoVersion is required"]),
        (ROLE, {"roleName": "r", **ACCOUNTS}, []),
        (ROLE, {"roleName": "r", "boundServiceAccountNames": ["a"]}, ["boundServiceAccountNamespaces or"]),
        (
            ROLE,
            {"roleName": "r", "boundServiceAccountNames": ["*"], "boundServiceAccountNamespaces": ["*"]},
            ["boundServiceAccountNames and boundServiceAccountNamespaces cannot both be '*'"],
        ),
        (SECRET, {"path": "kv/a", "dataJson": "s3cret"}, ["dataJson is not a JSON object"]),
        (SECRET, {"path": "kv/a", "dataJson": UNKNOWN}, []),
        (SECRET_V2, {"mount": "kv", "name": "a"}, ["dataJson or dataJsonWo is required"]),
        (TOKEN, {"ttl": "1 hour"}, ["ttl is no duration"]),
        (CERT, {"backend": "pki", "commonName": "a", "ttl": "1h30m"}, []),
    ],
)
def test_inputs(plugin: Plugin, type_: str, inputs: dict[str, Any], problems: list[str]) -> None:
    found = plugin.check(type_, **inputs)
    assert len(found) == len(problems), found
    assert all(map(str.startswith, found, problems)), found
    assert "s3cret" not in str(found)


def test_an_unknown_type_and_a_function(plugin: Plugin) -> None:
    with pytest.raises(PluginError, match="pulumi_vault has no resource type vault:index/mont:Mont"):
        plugin.check("vault:index/mont:Mont")
    with pytest.raises(PluginError, match=r"vault:aws/authBackendRole:AuthBackendRole is no resource of .*; it has: "):
        plugin.check("vault:aws/authBackendRole:AuthBackendRole")
    with pytest.raises(PluginError, match="resources only, no functions"):
        asyncio.run(plugin.provider.invoke(InvokeRequest("vault:index/getPolicyDocument:getPolicyDocument", {})))


def test_secrets_become_secret_whatever_the_program_says(plugin: Plugin) -> None:
    request = CheckRequest(plugin.urn(SECRET), {}, wired({"path": "kv/a", "dataJson": "{}"}), b"")
    inputs = asyncio.run(plugin.provider.check(request)).inputs
    assert inputs
    assert inputs["dataJson"].is_secret
    assert not inputs["path"].is_secret
    made = asyncio.run(plugin.provider.create(CreateRequest(plugin.urn(SECRET), inputs, 0, False))).properties
    assert made["dataJson"].is_secret
    assert made["data"].is_secret
    assert not made["path"].is_secret


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({"address": "https://vault.example:8200", "skipTlsVerify": "false", "maxRetries": "2"}, []),
        ({"address": UNKNOWN, "caCertFile": UNKNOWN}, []),
        ({}, ["address is missing"]),
        (
            {"address": "http://vault.example:8200"},
            ["address is 'http://vault.example:8200', but must be an https:// URL"],
        ),
        ({"address": "vault.example"}, ["address is 'vault.example', but must be an https:// URL"]),
        ({"address": "https://v", "skipTlsVerify": "true"}, ["skipTlsVerify must be false"]),
        ({"address": "https://v", "caCertFile": "/none.pem"}, ["caCertFile is '/none.pem', which is no file"]),
        ({"address": "https://v", "token": "s3cret"}, ["token is not taken: the token comes from VAULT_TOKEN"]),
        ({"address": "https://v", "authLogin": '{"path": "auth/a"}'}, ["authLogin is not supported"]),
        ({"adress": "https://v"}, ["adress is not a property of Provider", "adress is not", "address is missing"]),
    ],
)
def test_the_providers_settings(plugin: Plugin, settings: dict[str, Any], problems: list[str]) -> None:
    request = CheckRequest("urn:pulumi:t::t::pulumi:providers:vault::it", {}, wired(settings), b"")
    found = [failure.reason for failure in asyncio.run(plugin.provider.check_config(request)).failures or []]
    assert len(found) == len(problems), found
    assert all(map(str.startswith, found, problems)), found
    assert "s3cret" not in str(found)


# --- previews ---


def test_a_preview_asks_nothing_of_vault(plugin: Plugin) -> None:
    plugin.vault.sealed_after = 0
    id_, mount = plugin.preview(MOUNT, path="kv", type="kv", description=UNKNOWN)
    assert id_ is None
    assert (mount["path"], mount["description"], mount["accessor"]) == ("kv", UNKNOWN, UNKNOWN)
    _, config = plugin.preview(CONFIG, kubernetesHost=UNKNOWN, backend=UNKNOWN)
    assert config["backend"] == UNKNOWN
    assert config["disableIssValidation"] is False


def test_vault_cannot_be_asked_at_an_unknown_address(plugin: Plugin) -> None:
    plugin.provider._vault = None
    asyncio.run(plugin.provider.configure(ConfigureRequest({}, wired({"address": UNKNOWN}), True, True)))
    assert plugin.preview(MOUNT, path="kv", type="kv")[1]["path"] == "kv"
    with pytest.raises(PluginError, match="the address of Vault is not known yet"):
        plugin.create(MOUNT, path="kv", type="kv")


# --- what counts as a change ---


@pytest.mark.parametrize(
    ("type_", "state", "inputs"),
    [
        (MOUNT, {"path": "kv", "type": "kv", "maxLeaseTtlSeconds": 60.0}, {"path": "kv", "type": "kv"}),
        (MOUNT, {"path": "kv", "type": "kv", "description": ""}, {"path": "kv", "type": "kv", "local": False}),
        (AUTH, {"type": "k", "tune": {"maxLeaseTtl": "3600s", "tokenType": "default-service"}}, {"type": "k"}),
        (
            AUTH,
            {"type": "k", "tune": {"maxLeaseTtl": "3600s", "tokenType": "default-service", "listingVisibility": ""}},
            {"type": "k", "tune": {"maxLeaseTtl": "1h"}},
        ),
        (
            ROLE,
            {"backend": "kubernetes", "roleName": "r", **ACCOUNTS, "tokenType": "default"},
            {"roleName": "r", **ACCOUNTS},
        ),
        (
            ROLE,
            {"roleName": "r", "backend": "a", **ACCOUNTS},
            {
                "roleName": "r",
                "backend": "a/",
                "boundServiceAccountNames": ["b", "a"],
                "boundServiceAccountNamespaces": ["n"],
            },
        ),
        (SECRET, {"path": "a", "dataJson": '{"a":1,"b":2}'}, {"path": "a", "dataJson": '{"b": 2, "a": 1}'}),
        (
            PKI_ROLE,
            {"backend": "p", "name": "n", "ttl": "3600", "requireCn": True},
            {"backend": "p", "name": "n", "ttl": "1h"},
        ),
        (
            CONFIG,
            {"kubernetesHost": "h", "disableIssValidation": True},
            {"kubernetesHost": "h", "tokenReviewerJwtWo": "x"},
        ),
    ],
)
def test_the_same_in_other_words(plugin: Plugin, type_: str, state: dict[str, Any], inputs: dict[str, Any]) -> None:
    response = plugin.diff(type_, {**vault.KINDS[type_].defaults, **state}, **inputs)
    assert not response.changes, response.diffs


@pytest.mark.parametrize(
    ("type_", "state", "inputs", "change", "replace"),
    [
        (MOUNT, {"path": "a", "type": "kv"}, {"path": "b", "type": "kv"}, "path", True),
        (MOUNT, {"path": "a", "type": "kv"}, {"path": "a", "type": "pki"}, "type", True),
        (MOUNT, {"path": "a", "type": "kv", "description": "x"}, {"path": "a", "type": "kv"}, "description", False),
        (
            AUTH,
            {"type": "k", "tune": {"maxLeaseTtl": "1h"}},
            {"type": "k", "tune": {"maxLeaseTtl": "2h"}},
            "tune",
            False,
        ),
        (ROLE, {"roleName": "a", **ACCOUNTS}, {"roleName": "b", **ACCOUNTS}, "roleName", True),
        (ROLE, {"roleName": "a", **ACCOUNTS, "audience": "vault"}, {"roleName": "a", **ACCOUNTS}, "audience", False),
        (ROLE, {"roleName": "a", **ACCOUNTS}, {"roleName": "a", **ACCOUNTS, "tokenTtl": UNKNOWN}, "tokenTtl", False),
        (
            CONFIG,
            {"kubernetesHost": "h", "tokenReviewerJwt": "a"},
            {"kubernetesHost": "h", "tokenReviewerJwt": "b"},
            "tokenReviewerJwt",
            False,
        ),
        (SECRET, {"path": "a", "dataJson": '{"a":1}'}, {"path": "a", "dataJson": '{"a":2}'}, "dataJson", False),
        (TOKEN, {"ttl": "1h", "policies": []}, {"ttl": "2h"}, "ttl", True),
        (TOKEN, {"renewMinLease": 1.0}, {"renewMinLease": 2.0}, "renewMinLease", False),
        (CERT, {"commonName": "a"}, {"commonName": "b"}, "commonName", True),
        (CERT, {"commonName": "a", "revoke": True}, {"commonName": "a"}, "revoke", False),
    ],
)
def test_changes(
    plugin: Plugin, type_: str, state: dict[str, Any], inputs: dict[str, Any], change: str, replace: bool
) -> None:
    response = plugin.diff(type_, {**vault.KINDS[type_].defaults, **state}, **inputs)
    assert response.diffs == [change]
    assert response.replaces == ([change] if replace else [])


def test_two_cannot_be_at_one_path(plugin: Plugin) -> None:
    state = {"path": "a", "type": "kv"}
    assert plugin.diff(MOUNT, state, "a", path="a", type="pki").delete_before_replace
    assert not plugin.diff(MOUNT, state, "a", path="b", type="kv").delete_before_replace
    changes = plugin.diff(MOUNT, state, "a", path=UNKNOWN, type="pki").detailed_diff or {}
    assert changes["path"].kind == PropertyDiffKind.UPDATE_REPLACE


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3600", 3600),
        ("1h30m", 5400),
        ("2d", 172800),
        ("90s", 90),
        (7.0, 7),
        ("", 0),
        (None, 0),
        ("1 h", None),
        ("h", None),
    ],
)
def test_durations(text: Any, number: int | None) -> None:
    assert seconds(text) == number


# --- what is written ---


def test_what_is_left_out_is_taken_back(plugin: Plugin) -> None:
    id_, made = plugin.create(ROLE, roleName="istiod", **ACCOUNTS, audience="vault", tokenTtl=60.0)
    assert id_ == "auth/kubernetes/role/istiod"
    assert plugin.vault.written[-1] == (
        id_,
        {
            "bound_service_account_names": ["a", "b"],
            "bound_service_account_namespaces": ["n"],
            "audience": "vault",
            "token_ttl": 60,
        },
    )
    made = plugin.update(ROLE, id_, made, roleName="istiod", **ACCOUNTS)
    _, body = plugin.vault.written[-1]
    assert (body["audience"], body["token_ttl"]) == ("", 0)
    assert made["audience"] == ""
    assert made["backend"] == "kubernetes"


def test_the_reviewers_token_that_is_only_written(plugin: Plugin) -> None:
    inputs = {"kubernetesHost": "h", "tokenReviewerJwtWo": "s3cret", "tokenReviewerJwtWoVersion": 1.0}
    id_, made = plugin.create(CONFIG, **inputs)
    (path, body), *_ = plugin.vault.written
    assert (path, body["token_reviewer_jwt"]) == (id_, "s3cret")
    assert body["disable_iss_validation"] is False, "as the real provider, against Vault's own default"
    assert "s3cret" not in str(made)
    assert made["tokenReviewerJwtWoVersion"] == 1.0


def test_a_reviewers_token_that_somebody_took_away(plugin: Plugin) -> None:
    id_, made = plugin.create(CONFIG, kubernetesHost="h", tokenReviewerJwt="s3cret")
    assert made["tokenReviewerJwt"] == "s3cret"
    plugin.vault.kept["auth/kubernetes/config"] = {"kubernetes_host": "h", "token_reviewer_jwt_set": False}
    read = asyncio.run(plugin.provider.read(ReadRequest(plugin.urn(CONFIG), str(id_), wired(made), {})))
    assert "tokenReviewerJwt" not in read.properties
    assert plugin.diff(CONFIG, plain_map(read.properties), kubernetesHost="h", tokenReviewerJwt="s3cret").diffs == [
        "tokenReviewerJwt"
    ]


def test_an_import_gets_the_inputs_that_matter(plugin: Plugin) -> None:
    plugin.vault.kept["auth/a/role/r"] = {
        "bound_service_account_names": ["a"],
        "bound_service_account_namespaces": ["n"],
        "alias_name_source": "serviceaccount_uid",
        "token_ttl": 60,
        "token_max_ttl": 0,
        "token_policies": [],
        "token_type": "default",
    }
    read = asyncio.run(plugin.provider.read(ReadRequest(plugin.urn(ROLE), "auth/a/role/r", {}, {})))
    assert plain_map(read.inputs) == {
        "backend": "a",
        "roleName": "r",
        "boundServiceAccountNames": ["a"],
        "boundServiceAccountNamespaces": ["n"],
        "tokenTtl": 60.0,
    }
    with pytest.raises(PluginError, match=r"'r' is no id of .*; it is like auth/\{backend\}/role/\{roleName\}"):
        asyncio.run(plugin.provider.read(ReadRequest(plugin.urn(ROLE), "r", {}, {})))
    with pytest.raises(PluginError, match="cannot be imported"):
        asyncio.run(plugin.provider.read(ReadRequest(plugin.urn(ENDPOINT), "kv/config", {}, {})))


def test_what_is_gone_is_gone(plugin: Plugin) -> None:
    read = asyncio.run(plugin.provider.read(ReadRequest(plugin.urn(POLICY), "gone", wired({"name": "gone"}), {})))
    assert read.resource_id == ""


def test_what_vault_took_is_in_the_state_although_it_cannot_be_read(plugin: Plugin) -> None:
    plugin.vault.sealed_after = 1
    with pytest.raises(Unfinished, match="it is sealed") as caught:
        plugin.create(POLICY, name="reader", policy="#")
    assert caught.value.resource_id == "reader"
    assert plain_map(caught.value.properties)["policy"] == "#"
    assert [path for path, _ in plugin.vault.written] == ["sys/policies/acl/reader"]


def test_a_policy_of_somebody_elses_is_left_alone_on_demand(plugin: Plugin) -> None:
    plugin.vault.kept["sys/policies/acl/theirs"] = {"policy": "# theirs"}
    with pytest.raises(PluginError, match=r"has a policy theirs already.*pulumi import vault:index/policy:Policy NAME"):
        plugin.create(POLICY, name="theirs", policy="#", allowOverwrite=False)
    assert plugin.vault.written == []


def test_deletion(plugin: Plugin) -> None:
    for type_, id_, state in (
        (MOUNT, "kv", {}),
        (CONFIG, "auth/a/config", {}),
        (SECRET_V2, "kv/data/a", {"deleteAllVersions": True}),
        (SECRET_V2, "kv/data/b", {}),
        (ENDPOINT, "kv/config", {"disableDelete": True}),
    ):
        asyncio.run(plugin.provider.delete(DeleteRequest(plugin.urn(type_), id_, wired(state), 0)))
    assert plugin.vault.deleted == ["sys/mounts/kv", "kv/metadata/a", "kv/data/b"]


def test_the_guard(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://production")
    for make in (plugin.preview, plugin.create):
        with pytest.raises(PluginError, match="refuses to work: the state backend s3://production is not a directory"):
            make(POLICY, name="reader", policy="#")
    for action in (
        plugin.provider.configure(ConfigureRequest({}, {}, True, True)),
        plugin.provider.read(ReadRequest(plugin.urn(POLICY), "reader", {}, {})),
        plugin.provider.delete(DeleteRequest(plugin.urn(POLICY), "reader", {}, 0)),
    ):
        with pytest.raises(PluginError, match="refuses to work"):
            asyncio.run(action)
    assert (plugin.vault.written, plugin.vault.deleted) == ([], [])


# --- Vault's refusals ---


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            hvac.exceptions.VaultDown(errors=["Vault is sealed"]),
            r"does not write a/b, it is sealed or not active \(Vault is sealed\): unseal it \(`vault operator",
        ),
        (
            hvac.exceptions.Forbidden(errors=["1 error occurred:\n\t* permission denied\n\n"]),
            r"does not write a/b: permission denied; a policy of the token in VAULT_TOKEN must .*create, update",
        ),
        (
            hvac.exceptions.Forbidden(errors=["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]),
            r"permission denied; the token in VAULT_TOKEN is unknown to it, revoked or expired",
        ),
        (
            hvac.exceptions.InvalidPath(errors=['no handler for route "a/b". route entry not found.']),
            r'no handler for route "a/b"\. route entry not found\.; is that mount or auth method there\?',
        ),
        (hvac.exceptions.InvalidRequest(errors=["missing role"]), "does not write a/b: missing role$"),
        (
            requests.exceptions.SSLError("certificate verify failed: self-signed certificate in certificate chain"),
            r"shows a certificate that .*ca\.pem does not verify: certificate verify failed: self-signed",
        ),
        (
            requests.exceptions.ConnectionError("<urllib3 object at 0x1>: [Errno 111] Connection refused"),
            r"cannot be reached at https://vault\.example:8200: \[Errno 111\] Connection refused\. Is it running",
        ),
        (requests.exceptions.ReadTimeout("read timed out"), "cannot be reached .* read timed out"),
    ],
)
def test_what_vault_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, words: str
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")

    def post(adapter: Any, url: str, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(hvac.adapters.JSONAdapter, "post", post)
    settings = {"address": "https://vault.example:8200", "caCertFile": str(ca), "skipChildToken": "true"}
    with pytest.raises(PluginError, match=words) as caught:
        client.Vault(settings, "s3cret").write("a/b", {"PIN": "1234"})
    assert "1234" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_token_for_this_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, Any]] = []

    def post(adapter: Any, url: str, json: Any = None, **more: Any) -> Any:
        asked.append((adapter.token, url, json))
        return {"auth": {"client_token": "child"}}

    monkeypatch.setattr(hvac.adapters.JSONAdapter, "post", post)
    made = client.Vault({"address": "https://v", "maxLeaseTtlSeconds": "600"}, "operators")
    made.write("a/b", {})
    (token, url, body), (later, _, _) = asked
    assert (token, url, later) == ("operators", "/v1/auth/token/create", "child")
    assert (body["ttl"], body["explicit_max_ttl"], body["renewable"]) == ("600s", "600s", False)
    with pytest.raises(PluginError, match="VAULT_TOKEN is not set"):
        client.Vault({"address": "https://v"}, "")


def test_a_new_kv_mount_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = "Upgrading from non-versioned to versioned data. This backend will be unavailable for a brief period"
    answers: list[Any] = [hvac.exceptions.InvalidRequest(errors=[busy]), {"data": {"version": 1}}]

    def post(adapter: Any, url: str, **more: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(hvac.adapters.JSONAdapter, "post", post)
    monkeypatch.setattr("time.sleep", lambda _: None)
    made = client.Vault({"address": "https://v", "skipChildToken": "true"}, "t")
    assert made.write("kv/data/a", {"data": json.loads("{}")}) == {"data": {"version": 1}}


def test_a_path_in_use_says_how_to_go_on(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, data: Any, wrap_ttl: str | None = None) -> Any:
        reason = "path is already in use at asm-c1/"
        raise client.Refused(f"Vault does not write {path}: {reason}", reason)

    monkeypatch.setattr(plugin.vault, "write", refuse)
    with pytest.raises(PluginError) as caught:
        plugin.create(MOUNT, path="asm-c1", type="kv")
    assert "`pulumi import vault:index/mount:Mount NAME asm-c1`" in str(caught.value)
    assert "`vault secrets disable asm-c1`" in str(caught.value)


def test_what_a_killed_run_had_begun_is_adopted() -> None:
    def begun(type_: str, urn: str, operation: str = "creating", /, **inputs: Any) -> dict[str, Any]:
        return {"type": operation, "resource": {"urn": f"urn::{urn}", "type": type_, "inputs": inputs}}

    deployment = {
        "resources": [{"urn": "urn::replaced", "type": POLICY, "id": "old"}],
        "pending_operations": [
            begun(MOUNT, "mount", path="asm-c1", type="kv"),
            begun(POLICY, "replaced", name="new"),
            begun(POLICY, "changed", "updating", name="changed"),
            begun(TOKEN, "token"),
            begun("kubernetes:core/v1:Secret", "secret"),
        ],
    }
    assert vault.adopt(deployment) == ["urn::mount"]
    inputs = {"path": "asm-c1", "type": "kv"}
    adopted = {"urn": "urn::mount", "type": MOUNT, "inputs": inputs, "id": "asm-c1", "outputs": inputs}
    assert deployment["resources"][1:] == [adopted]
    assert vault.adopt({}) == []
