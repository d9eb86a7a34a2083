"""Vault, as a mesh's operator finds it: started, initialised, unsealed, with an audit log and a token for deployers.

Its storage is below the lab's directory and outlives a restart. A Vault that starts is sealed: `up` unseals it, as an
administrator would. The root token, the unseal key and the deployer's token are files that root alone can read.

Another cluster uses the same Vault, as in the document every cluster has a mount of its own: OTHER_CLUSTER.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import hvac
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hvac.exceptions import Forbidden, InvalidRequest, VaultError

from lab import files, machine, pki, service
from lab.errors import LabError, NotStarted
from lab.instance import Instance
from lab.programs import pinned
from lab.service import Service
from lab.topology import CONTROL, VAULT, VAULT_ADDRESS, VAULT_PORT

ADDRESS = f"https://{VAULT_ADDRESS}:{VAULT_PORT}"
OTHER_CLUSTER = "asm-c2"
"""The mount of another cluster's secret."""
OTHER_POLICY, OTHER_AUTH = f"{OTHER_CLUSTER}-hsm-policy", f"{OTHER_CLUSTER}/hsm"
OTHER_ROLE = f"auth/{OTHER_AUTH}/role/istiod"
DEPLOYER = "meshgate-deployer"
DEPLOYER_POLICY = Path(__file__).parent / "vault-deployer.hcl"
DEPLOYER_PERIOD = "768h"
"""How long the deployer's token lives without being renewed; each `up` renews it."""
AUDIT = "audit"

T = TypeVar("T")


def server(instance: Instance, name: str = VAULT) -> Service:
    """Vault in the machine `name`, ready when it is unsealed (see `prepare`). Raises tools.NotBuilt."""
    pair = pki.vault_authority(instance).issue("vault", "vault", addresses=[VAULT_ADDRESS])
    configuration = {
        # Alone in its cluster, it need not wait long before it leads it.
        "storage": {"raft": {"path": str(_storage(instance)), "node_id": "vault", "performance_multiplier": "1"}},
        "listener": {
            "tcp": {
                "address": f"{VAULT_ADDRESS}:{VAULT_PORT}",
                "tls_cert_file": str(pair.certificate),
                "tls_key_file": str(pair.key),
            }
        },
        "api_addr": ADDRESS,
        "cluster_addr": f"https://{VAULT_ADDRESS}:{VAULT_PORT + 1}",
        # Locking its memory takes a right that not every root has; nothing of a lab is a secret anywhere else.
        "disable_mlock": True,
        "log_level": "warn",
    }
    path = files.write(_directory(instance) / "server.json", json.dumps(configuration, indent=2))
    _storage(instance).mkdir(mode=0o700, parents=True, exist_ok=True)
    return Service(
        name,
        "vault",
        (pinned("vault"), "server", f"-config={path}"),
        f"{ADDRESS}/v1/sys/health",  # 2xx only when it is unsealed
        environment={"GOMEMLIMIT": "256MiB"},
        files=(path, pair.certificate),
    )


def of(instance: Instance) -> Service:
    """The Vault of a lab that runs, where it is: a bare lab has one machine."""
    return server(instance, VAULT if machine.pid(instance, VAULT) else CONTROL)


def prepare(instance: Instance, vault: Service, timeout: float = 60) -> None:
    """Initialise and unseal a Vault that was started, and give it what an administrator would. Idempotent.

    Raises LabError.
    """
    _wait_for_answer(instance, vault, timeout)
    if not root_token(instance).exists():
        begun = _directory(instance) / "initialising"
        if begun.exists():
            # An `up` was killed before it could keep the keys; Vault has made them, or still does. Nobody has put in
            # anything yet.
            service.stop(instance, vault)
            shutil.rmtree(_storage(instance))
            _storage(instance).mkdir(mode=0o700)
            service.start(instance, vault)
            _wait_for_answer(instance, vault, timeout)
        files.write(begun, "")
        made = _call(instance, vault, "", lambda client: client.sys.initialize(secret_shares=1, secret_threshold=1))
        files.write(unseal_key(instance), made["keys_base64"][0])
        files.write(root_token(instance), made["root_token"])
        begun.unlink()
    unseal(instance, vault)
    as_root(instance, vault, lambda client: _provide(instance, client))


def unseal(instance: Instance, vault: Service) -> None:
    """Unseal a Vault that answers, if it is sealed. Raises LabError."""
    key = unseal_key(instance).read_text()

    def submit(client: Any) -> None:
        if client.sys.is_sealed():
            client.sys.submit_unseal_key(key)

    _call(instance, vault, "", submit)
    service.wait(instance, [vault], 30)


def as_root(instance: Instance, vault: Service, action: Callable[[Any], T]) -> T:
    """What `action` gives for an hvac client that holds the root token, in the machine's network. Raises LabError."""
    return _call(instance, vault, root_token(instance).read_text(), action)


def environment(instance: Instance) -> dict[str, str]:
    """What Vault's own programs and Pulumi's provider read. No token when the deployer's file is not there."""
    token = deployer_token(instance)
    return {
        "VAULT_ADDR": ADDRESS,
        "VAULT_CACERT": str(instance.vault_ca),
        **({"VAULT_TOKEN": token.read_text()} if token.exists() else {}),
    }


def root_token(instance: Instance) -> Path:
    """The file with the root token."""
    return _directory(instance) / "root-token"


def unseal_key(instance: Instance) -> Path:
    """The file with the one key that unseals."""
    return _directory(instance) / "unseal-key"


def deployer_token(instance: Instance) -> Path:
    """The file with the token of who deploys: what it may do is in vault-deployer.hcl."""
    return _directory(instance) / "deployer-token"


def audit_log(instance: Instance) -> Path:
    """Vault's audit log: a JSON object a line, secrets hashed."""
    return instance.log("vault-audit")


def left(client: Any) -> list[str]:
    """What others than the lab put in: mounts, auth methods, policies and their names."""
    own_mounts = {"cubbyhole/", "identity/", "sys/", f"{OTHER_CLUSTER}/"}
    own_policies = {"default", "root", DEPLOYER, OTHER_POLICY}
    return [
        *(f"mount {path}" for path in client.sys.list_mounted_secrets_engines()["data"] if path not in own_mounts),
        *(
            f"auth {path}"
            for path in client.sys.list_auth_methods()["data"]
            if path not in ("token/", f"{OTHER_AUTH}/")
        ),
        *(f"policy {name}" for name in client.sys.list_policies()["data"]["policies"] if name not in own_policies),
    ]


def _provide(instance: Instance, client: Any) -> None:
    if f"{AUDIT}/" not in client.sys.list_enabled_audit_devices()["data"]:
        options = {"file_path": str(audit_log(instance)), "mode": "0600"}
        client.sys.enable_audit_device("file", path=AUDIT, options=options)
    client.sys.create_or_update_policy(DEPLOYER, DEPLOYER_POLICY.read_text())
    token = deployer_token(instance)
    try:
        client.auth.token.renew(token.read_text())
    except (FileNotFoundError, InvalidRequest, Forbidden):  # it has ended, or was revoked
        made = client.auth.token.create(policies=[DEPLOYER], period=DEPLOYER_PERIOD, no_parent=True)
        files.write(token, made["auth"]["client_token"])
    if client.read(OTHER_ROLE) is None:
        _provide_other_cluster(instance, client)


def _provide_other_cluster(instance: Instance, client: Any) -> None:
    """What the environment of a cluster c2 would make. Its role comes last: with it, all is there."""
    if f"{OTHER_CLUSTER}/" not in client.sys.list_mounted_secrets_engines()["data"]:
        client.sys.enable_secrets_engine("kv", path=OTHER_CLUSTER, options={"version": "2"})
    client.sys.create_or_update_policy(
        OTHER_POLICY, f'path "{OTHER_CLUSTER}/data/hsm" {{\n  capabilities = ["read"]\n}}\n'
    )
    _patiently(
        lambda: client.secrets.kv.v2.create_or_update_secret(
            "hsm", {"PIN": secrets.token_hex(16)}, mount_point=OTHER_CLUSTER
        )
    )
    if f"{OTHER_AUTH}/" not in client.sys.list_auth_methods()["data"]:
        client.sys.enable_auth_method("kubernetes", path=OTHER_AUTH)
    key = load_pem_private_key(pki.signing_key(_directory(instance) / "other-cluster-key.pem").read_bytes(), None)
    client.write_data(
        f"auth/{OTHER_AUTH}/config",
        data={
            "kubernetes_host": "https://c2.example:6443",
            # By issuer and signature Vault tells this cluster's tokens from others' without asking anybody.
            "issuer": "https://c2.example",
            "disable_iss_validation": False,
            "pem_keys": [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()],
            "disable_local_ca_jwt": True,
        },
    )
    client.write_data(
        OTHER_ROLE,
        data={
            "bound_service_account_names": ["istiod-*"],
            "bound_service_account_namespaces": ["istio-system"],
            "audience": "vault",
            "token_policies": [OTHER_POLICY],
        },
    )


def _patiently(write: Callable[[], object], timeout: float = 10) -> None:
    """A kv mount that is new refuses for a moment, while it becomes one with versions."""
    end = time.monotonic() + timeout
    while True:
        try:
            write()
            return
        except InvalidRequest:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def _wait_for_answer(instance: Instance, vault: Service, timeout: float) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            _call(instance, vault, "", lambda client: client.sys.is_initialized())
            return
        except LabError as error:
            if not service.alive(instance, vault):
                raise NotStarted(vault.part, "ended right after its start", instance.log(vault.part)) from None
            if time.monotonic() > end:
                raise NotStarted(vault.part, f"does not answer ({error})", instance.log(vault.part)) from None
        time.sleep(0.1)


def _call(instance: Instance, vault: Service, token: str, action: Callable[[Any], T]) -> T:
    def call() -> T:
        # Without a token given, hvac would look for the caller's own.
        client = hvac.Client(ADDRESS, token=token, verify=str(instance.vault_ca), timeout=10)
        client.session.trust_env = False  # no proxy of the caller's
        try:
            return action(client)
        finally:
            client.adapter.close()

    try:
        return machine.in_network(instance, vault.machine, call)
    except (VaultError, OSError) as error:  # requests' errors are OSErrors
        raise LabError(f"Vault of lab {instance.name}: {error}") from error


def _directory(instance: Instance) -> Path:
    return instance.vault_ca.parents[1]


def _storage(instance: Instance) -> Path:
    return _directory(instance) / "storage"
