"""The vault stand-in under the real engine against a real Vault of its own: a scratch program, without any cluster.

Every resource type lives once: made, left alone, changed behind the engine's back, changed, replaced, taken over and
deleted; with a Vault that is sealed in between, and a run that was killed.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509

import tools
from lab import pki, vault
from lab import pulumi as runner
from lab.instance import Instance
from lab.plugins import vault as plugin
from lab.sim import summary
from tests.engine.test_tls_plugin import decodings

pytestmark = pytest.mark.engine

UP = ("up", "--yes", "--skip-preview")
REFRESH = ("refresh", "--yes", "--skip-preview")
PIN, JWT = "1357-first-pin-9753", "eyJ.reviewers-own-token.sig"

PROGRAM = """
import json
from pathlib import Path

import pulumi
import pulumi_tls as tls
import pulumi_vault as vault

given = json.loads(Path("settings.json").read_text())
key = tls.PrivateKey("key", algorithm="ED25519")
# Not known in the first preview.
address = key.public_key_pem.apply(lambda _: given["address"])
provider = vault.Provider("vault", address=address, ca_cert_file=given["ca"], skip_tls_verify=False)


def on(*needs, **more):
    return pulumi.ResourceOptions(provider=provider, depends_on=list(needs), **more)


kv = vault.Mount(
    "kv",
    path="kv-1",
    type="kv",
    options={"version": "1"},
    description=given["description"],
    max_lease_ttl_seconds=given["lease"],
    opts=on(),
)
pin = json.dumps({"PIN": given["pin"]})
vault.kv.Secret("secret", path=pulumi.Output.concat(kv.path, "/", given["name"]), data_json=pin, opts=on())
kv2 = vault.Mount("kv2", path="kv-2", type="kv", options={"version": "2"}, opts=on())
vault.kv.SecretV2(
    "versioned",
    mount=kv2.path,
    name="hsm",
    data_json=json.dumps({"PIN": given["pin"], "slot": {"label": 7}}),
    custom_metadata={"max_versions": 4, "data": {"owner": "mesh"}},
    delete_all_versions=True,
    opts=on(),
)
settings = vault.generic.Endpoint(
    "settings",
    path=pulumi.Output.concat(kv2.path, "/config"),
    data_json=json.dumps({"max_versions": given["versions"]}),
    ignore_absent_fields=True,
    disable_delete=True,
    opts=on(),
)
policy = vault.Policy(
    "policy", name="reader", policy='path "kv-1/hsm" {\\n  capabilities = ["%s"]\\n}\\n' % given["may"], opts=on()
)
auth = vault.AuthBackend(
    "auth", type="kubernetes", path="c1/hsm", tune={"max_lease_ttl": given["tune"], "token_type": "batch"}, opts=on()
)
vault.kubernetes.AuthBackendConfig(
    "config",
    backend=auth.path,
    kubernetes_host=given["host"],
    kubernetes_ca_cert=Path(given["ca"]).read_text(),
    token_reviewer_jwt=given["jwt"],
    disable_iss_validation=True,
    opts=on(),
)
vault.kubernetes.AuthBackendRole(
    "role",
    backend=auth.path,
    role_name=given["role"],
    bound_service_account_names=["istiod-b", "istiod-a"],
    bound_service_account_namespaces=["istio-system"],
    audience="vault",
    token_policies=[policy.name],
    token_ttl=given["ttl"],
    opts=on(),
)
token = vault.Token(
    "token", policies=[policy.name], ttl=given["token"], no_parent=True, metadata={"for": "test"}, opts=on()
)

pki = vault.Mount("pki", path="pki", type="pki", max_lease_ttl_seconds=87600 * 3600, opts=on())
root = vault.pkisecret.SecretBackendRootCert(
    "root", backend=pki.path, type="internal", common_name="root", ttl="8760h", key_type="ec", key_bits=256, opts=on()
)
vault.pkisecret.SecretBackendConfigUrls(
    "urls", backend=pki.path, issuing_certificates=["https://vault.example/ca"], opts=on()
)
lower = vault.Mount("lower", path="pki-c1", type="pki", max_lease_ttl_seconds=8760 * 3600, opts=on())
request = vault.pkisecret.SecretBackendIntermediateCertRequest(
    "request", backend=lower.path, type="internal", common_name="c1", key_type="ec", key_bits=256, opts=on()
)
signed = vault.pkisecret.SecretBackendRootSignIntermediate(
    "signed", backend=pki.path, csr=request.csr, common_name="c1", ttl="4380h", revoke=True, opts=on(root)
)
installed = vault.pkisecret.SecretBackendIntermediateSetSigned(
    "installed", backend=lower.path, certificate=signed.certificate_bundle, opts=on()
)
servers = vault.pkisecret.SecretBackendRole(
    "servers",
    backend=lower.path,
    name="servers",
    allowed_domains=["example.com"],
    allow_subdomains=True,
    max_ttl="72h",
    key_type="ec",
    key_bits=256,
    opts=on(installed),
)
leaf = vault.pkisecret.SecretBackendCert(
    "leaf", backend=lower.path, name=servers.name, common_name=given["leaf"], ttl="1h", revoke=True, opts=on(installed)
)
if given["imports"]:
    options = {"version": "2"}
    vault.Mount("one", path="one", type="kv", options=options, opts=on(import_="one"))
    vault.Mount("new", path="new", type="kv", options=options, opts=on())
    method = vault.AuthBackend("taken", type="kubernetes", path="taken", opts=on(import_="taken"))
    vault.Policy("taken", name="taken", policy="# nothing", opts=on(import_="taken"))
    vault.kubernetes.AuthBackendRole(
        "taken",
        backend=method.path,
        role_name="istiod",
        bound_service_account_names=["istiod"],
        bound_service_account_namespaces=["istio-system"],
        token_ttl=3600,
        opts=on(import_="auth/taken/role/istiod"),
    )
pulumi.export("chain", [leaf.certificate, leaf.issuing_ca, root.certificate])
pulumi.export("token", token.client_token)
"""

SETTINGS: dict[str, Any] = {
    "description": "of the HSM",
    "lease": 3600,
    "name": "hsm",
    "pin": PIN,
    "versions": 5,
    "may": "read",
    "tune": "1h",
    "host": "https://kubernetes.example:6443",
    "jwt": JWT,
    "role": "istiod",
    "ttl": 3600,
    "token": "1h",
    "leaf": "a.example.com",
    "imports": False,
}
RESOURCES = 22
"""In the program, with the stack, the provider and the key; IMPORTED and one new one come later."""
IMPORTED = 4


@dataclass
class Server:
    """A Vault on the loopback interface."""

    address: str
    ca: Path
    key: str
    token: str

    @property
    def client(self) -> Any:
        return hvac.Client(self.address, self.token, verify=str(self.ca))

    def unseal(self) -> None:
        self.client.sys.submit_unseal_key(self.key)


@dataclass
class Stack:
    """The scratch program's stack."""

    directory: Path
    instance: Instance
    settings: dict[str, Any] = field(default_factory=dict)

    def pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        (self.directory / "settings.json").write_text(json.dumps(self.settings))
        return subprocess.run(
            ["pulumi", *arguments, "--stack", "test", "--non-interactive"],
            env=runner.environment(self.instance),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def run(self, *arguments: str) -> dict[str, int]:
        """Runs a command that must succeed: how many resources it created, replaced and so on."""
        log = self.directory / "events.json"
        log.unlink(missing_ok=True)
        answer = self.pulumi(*arguments, "--event-log", str(log))
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return summary(log.read_text())

    def fails(self, *arguments: str) -> str:
        """What a command that must fail says."""
        answer = self.pulumi(*arguments)
        said = answer.stdout + answer.stderr
        assert answer.returncode != 0, said
        assert PIN not in said
        assert JWT not in said
        return said

    @property
    def checkpoint(self) -> Path:
        return runner.state_file(self.instance, "test").parents[1] / "scratch" / "test.json"

    def resources(self) -> dict[str, dict[str, Any]]:
        """Type's and resource's name -> what the state holds of it, secrets encrypted."""
        found = json.loads(self.checkpoint.read_text())["checkpoint"]["latest"].get("resources") or []
        return {f"{one['type'].rsplit(':', 1)[-1]} {one['urn'].rsplit('::', 1)[-1]}": one for one in found}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESHGATE_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        made = Instance("vault")
        made.directory.mkdir(parents=True)
        yield made


@pytest.fixture(scope="module")
def server(instance: Instance) -> Iterator[Server]:
    """A Vault that is unsealed, whose root token is the deployer's in the lab's environment."""
    authority = pki.vault_authority(instance)
    pair = authority.issue("vault", "vault", addresses=[IPv4Address("127.0.0.1")])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listener = {
        "address": f"127.0.0.1:{port}",
        "tls_cert_file": str(pair.certificate),
        "tls_key_file": str(pair.key),
    }
    config = {"storage": {"inmem": {}}, "listener": {"tcp": listener}, "disable_mlock": True, "log_level": "error"}
    file = instance.directory / "vault.json"
    file.write_text(json.dumps(config))
    process = subprocess.Popen([tools.program("vault"), "server", f"-config={file}"], stdout=subprocess.DEVNULL)
    address = f"https://127.0.0.1:{port}"
    try:
        client = hvac.Client(address, verify=str(authority.certificate), token="")
        made = initialised(client)
        token = vault.deployer_token(instance)
        token.parent.mkdir(parents=True, exist_ok=True)
        token.write_text(made["root_token"])
        running = Server(address, authority.certificate, made["keys_base64"][0], made["root_token"])
        running.unseal()
        yield running
    finally:
        process.kill()
        process.wait()


def initialised(client: Any, timeout: float = 30) -> dict[str, Any]:
    end = time.monotonic() + timeout
    while True:
        try:
            return dict(client.sys.initialize(secret_shares=1, secret_threshold=1))
        except OSError:  # it does not listen yet
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture(scope="module")
def stack(instance: Instance, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    directory = tmp_path_factory.mktemp("program")
    (directory / "Pulumi.yaml").write_text("name: scratch\nruntime: python\n")
    (directory / "__main__.py").write_text(PROGRAM)
    made = Stack(directory, instance, SETTINGS | {"address": server.address, "ca": str(server.ca)})
    assert made.pulumi("stack", "init").returncode == 0
    return made


@pytest.fixture(scope="module")
def deployed(stack: Stack) -> Stack:
    assert stack.run("preview") == {"create": RESOURCES}
    assert stack.run(*UP) == {"create": RESOURCES}
    return stack


@pytest.fixture(scope="module")
def outputs(deployed: Stack) -> dict[str, Any]:
    outputs: dict[str, Any] = json.loads(deployed.pulumi("stack", "output", "--json", "--show-secrets").stdout)
    return outputs


@pytest.mark.usefixtures("deployed")
def test_everything_is_made_as_it_is_asked_for(server: Server, outputs: dict[str, Any]) -> None:
    client = server.client
    mount = client.read("sys/mounts/kv-1")["data"]
    assert (mount["options"], mount["description"]) == ({"version": "1"}, "of the HSM")
    assert mount["config"]["max_lease_ttl"] == 3600
    assert client.read("kv-1/hsm")["data"] == {"PIN": PIN}
    assert client.read("kv-2/data/hsm")["data"]["data"] == {"PIN": PIN, "slot": {"label": 7}}
    metadata = client.read("kv-2/metadata/hsm")["data"]
    assert (metadata["max_versions"], metadata["custom_metadata"]) == (4, {"owner": "mesh"})
    assert client.read("kv-2/config")["data"]["max_versions"] == 5
    assert 'capabilities = ["read"]' in client.read("sys/policies/acl/reader")["data"]["policy"]
    tuned = client.read("sys/auth/c1/hsm")["data"]["config"]
    assert (tuned["max_lease_ttl"], tuned["token_type"]) == (3600, "batch")
    config = client.read("auth/c1/hsm/config")["data"]
    assert config["kubernetes_host"] == SETTINGS["host"]
    assert config["disable_iss_validation"] is True
    assert config["token_reviewer_jwt_set"] is True
    role = client.read("auth/c1/hsm/role/istiod")["data"]
    assert sorted(role["bound_service_account_names"]) == ["istiod-a", "istiod-b"]
    assert (role["audience"], role["token_ttl"], role["token_policies"]) == ("vault", 3600, ["reader"])
    urls = client.read("pki/config/urls")["data"]
    assert urls["issuing_certificates"] == ["https://vault.example/ca"]
    leaf, issuer, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in outputs["chain"])
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(root)


def test_ids_and_outputs_are_the_real_providers(deployed: Stack) -> None:
    resources = deployed.resources()
    assert {name: one["id"] for name, one in resources.items() if name.split()[0] in ("Mount", "AuthBackend")} == {
        "Mount kv": "kv-1",
        "Mount kv2": "kv-2",
        "Mount pki": "pki",
        "Mount lower": "pki-c1",
        "AuthBackend auth": "c1/hsm",
    }
    ids = {
        "Secret secret": "kv-1/hsm",
        "SecretV2 versioned": "kv-2/data/hsm",
        "Endpoint settings": "kv-2/config",
        "Policy policy": "reader",
        "AuthBackendConfig config": "auth/c1/hsm/config",
        "AuthBackendRole role": "auth/c1/hsm/role/istiod",
        "SecretBackendRole servers": "pki-c1/roles/servers",
        "SecretBackendConfigUrls urls": "pki/config/urls",
        "SecretBackendRootCert root": "pki/root/generate/internal",
        "SecretBackendCert leaf": "pki-c1/servers/a.example.com",
    }
    assert {name: resources[name]["id"] for name in ids} == ids
    assert resources["Mount kv"]["outputs"]["accessor"].startswith("kv_")
    assert resources["SecretV2 versioned"]["outputs"]["metadata"]["version"] == "1"


def test_nothing_changes_by_itself(deployed: Stack) -> None:
    assert deployed.run(*UP, "--refresh", "--expect-no-changes") == {"same": RESOURCES}


def test_no_secret_is_in_the_state_in_clear(deployed: Stack, server: Server, outputs: dict[str, Any]) -> None:
    state = decodings(deployed.checkpoint.read_text())
    assert "of the HSM" in state, "the search finds what is in clear"
    assert hvac.Client(server.address, outputs["token"], verify=str(server.ca)).is_authenticated()
    for secret in (PIN, JWT, outputs["token"], server.token, "PRIVATE KEY"):
        assert secret not in state


def test_drift_is_found_and_put_right(deployed: Stack, server: Server) -> None:
    client = server.client
    client.delete("sys/policies/acl/reader")
    client.delete("kv-1/hsm")
    client.delete("sys/auth/c1/hsm")  # its configuration and role go with it
    client.write_data("sys/mounts/kv-2/tune", data={"description": "somebody else's"})
    client.write_data("pki/config/urls", data={"issuing_certificates": ["https://evil.example/ca"]})
    client.write_data("kv-2/data/hsm", data={"data": {"PIN": "another"}})
    client.delete("sys/mounts/pki-c1")  # with its role, request, intermediate and leaf
    assert deployed.run(*REFRESH) == {"delete": 10, "update": 3, "same": RESOURCES - 13}
    resources = deployed.resources()
    assert resources["Mount kv2"]["outputs"]["description"] == "somebody else's"
    urls = resources["SecretBackendConfigUrls urls"]["outputs"]
    assert urls["issuingCertificates"] == ["https://evil.example/ca"]
    assert not {"Policy policy", "Secret secret", "AuthBackendRole role", "Mount lower"} & resources.keys()

    # A new request has to be signed anew.
    assert deployed.run(*UP) == {"create": 10, "update": 3, "replace": 1, "same": RESOURCES - 14}
    assert client.read("sys/mounts/kv-2")["data"]["description"] == ""
    assert client.read("pki/config/urls")["data"]["issuing_certificates"] == ["https://vault.example/ca"]
    assert client.read("kv-2/data/hsm")["data"]["data"]["PIN"] == PIN
    assert client.read("auth/c1/hsm/role/istiod") is not None
    assert client.read("pki-c1/roles/servers") is not None


def test_changes_are_made_in_place_where_they_can_be(deployed: Stack, server: Server) -> None:
    client = server.client
    paths = ("sys/mounts/kv-1", "sys/auth/c1/hsm")
    accessors = [client.read(path)["data"]["accessor"] for path in paths]
    deployed.settings |= {
        "description": "of another HSM",
        "lease": 7200,
        "pin": "2468-second-pin-8642",
        "versions": 6,
        "may": "list",
        "tune": "7200s",
        "host": "https://other.example:6443",
        "jwt": "eyJ.second-token.sig",
        # What these name is another one.
        "name": "other",
        "role": "other",
        "token": "2h",
        "leaf": "b.example.com",
    }
    assert deployed.run(*UP) == {"update": 6, "replace": 4, "same": RESOURCES - 10}
    mount = client.read("sys/mounts/kv-1")["data"]
    assert (mount["description"], mount["config"]["max_lease_ttl"]) == ("of another HSM", 7200)
    assert client.read("kv-2/metadata/hsm")["data"]["current_version"] == 4
    assert client.read("kv-2/config")["data"]["max_versions"] == 6
    assert client.read("sys/auth/c1/hsm")["data"]["config"]["max_lease_ttl"] == 7200
    assert client.read("auth/c1/hsm/config")["data"]["kubernetes_host"] == "https://other.example:6443"
    assert [client.read(path)["data"]["accessor"] for path in paths] == accessors
    assert [client.read(f"kv-1/{name}") is not None for name in ("hsm", "other")] == [False, True]
    assert [client.read(f"auth/c1/hsm/role/{name}") is not None for name in ("istiod", "other")] == [False, True]


def test_a_sealed_vault_says_so_and_the_next_run_finishes(deployed: Stack, server: Server) -> None:
    """With resources that somebody else has made, which are taken over."""
    client = server.client
    client.sys.enable_secrets_engine("kv", path="one", options={"version": "2"})
    client.sys.enable_auth_method("kubernetes", path="taken")
    client.sys.create_or_update_policy("taken", "# nothing")
    role = {"bound_service_account_names": "istiod", "bound_service_account_namespaces": "istio-system"}
    client.write_data("auth/taken/role/istiod", data={**role, "token_ttl": "1h"})

    deployed.settings["imports"] = True
    client.sys.seal()
    said = deployed.fails(*UP)
    assert f"Vault at {server.address} does not write auth/token/create, it is sealed or not active" in said
    assert "(Vault is sealed): unseal it (`vault operator unseal`), then run this again" in said
    assert not {"Mount one", "Mount new"} & deployed.resources().keys()
    server.unseal()
    wait_until_active(server)
    assert deployed.run(*UP) == {"import": IMPORTED, "create": 1, "same": RESOURCES}


def test_what_a_killed_run_made_is_taken_over(deployed: Stack, server: Server) -> None:
    """As if the last run had been killed before it could note down its mount."""
    before = deployed.resources()["Mount new"]
    state = json.loads(deployed.checkpoint.read_text())
    latest = state["checkpoint"]["latest"]
    latest["resources"] = [one for one in latest["resources"] if one["urn"] != before["urn"]]
    deployed.checkpoint.write_text(json.dumps(state))
    said = deployed.fails(*UP)
    assert "path is already in use at new/" in said
    assert "`pulumi import vault:index/mount:Mount NAME new`" in said

    state = json.loads(deployed.checkpoint.read_text())
    begun = {key: value for key, value in before.items() if key not in ("id", "outputs")}
    latest = state["checkpoint"]["latest"] | {"pending_operations": [{"resource": begun, "type": "creating"}]}
    assert plugin.adopt(latest) == [before["urn"]]
    file = deployed.directory / "adopted.json"
    file.write_text(json.dumps({"version": state["version"], "deployment": latest}))
    assert deployed.pulumi("stack", "import", "--file", str(file)).returncode == 0
    assert deployed.run(*UP, "--refresh", "--expect-no-changes") == {"same": RESOURCES + IMPORTED + 1}
    assert deployed.resources()["Mount new"]["outputs"] == before["outputs"]


def test_refusals_are_told(deployed: Stack, server: Server, instance: Instance, tmp_path: Path) -> None:
    good = deployed.settings
    foreign = pki.Authority(tmp_path, "foreign")
    foreign.create()
    deployed.settings = good | {"address": "https://127.0.0.1:1", "description": "changed"}
    assert "Vault cannot be reached at https://127.0.0.1:1: " in deployed.fails(*UP)
    deployed.settings = good | {"ca": str(foreign.certificate), "description": "changed"}
    assert f"Vault at {server.address} shows a certificate that" in deployed.fails(*UP)
    deployed.settings = good | {"description": "changed"}
    token = vault.deployer_token(instance)
    token.write_text(server.client.auth.token.create(policies=["default"])["auth"]["client_token"])
    said = deployed.fails(*UP)
    token.write_text(server.token)
    assert "does not write auth/token/create: permission denied; a policy of the token in VAULT_TOKEN must give" in said


def test_destroy_leaves_nothing(deployed: Stack, server: Server) -> None:
    tokens = server.client.list("auth/token/accessors")["data"]["keys"]
    resources = deployed.resources()
    assert resources["Token token"]["id"] in tokens
    assert deployed.run("destroy", "--yes", "--skip-preview") == {"delete": RESOURCES + IMPORTED + 1}
    assert deployed.resources() == {}
    left = server.client
    assert set(left.sys.list_mounted_secrets_engines()["data"]) == {"cubbyhole/", "identity/", "sys/"}
    assert set(left.sys.list_auth_methods()["data"]) == {"token/"}
    assert set(left.sys.list_policies()["data"]["policies"]) == {"default", "root"}
    assert resources["Token token"]["id"] not in left.list("auth/token/accessors")["data"]["keys"]


def wait_until_active(server: Server, timeout: float = 20) -> None:
    end = time.monotonic() + timeout
    while server.client.sys.read_health_status(method="GET").get("standby", True):
        assert time.monotonic() < end
        time.sleep(0.1)
