"""The vendor's patched istiod: values for its chart, and for the public chart what those values mean there."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from settings.authority import HsmKmsAuthority

SOCKET_DIRECTORY = "/var/run/hsm-socket"
CREDENTIAL_DIRECTORY = "/var/run/hsm-credential"
CLIENT_CONFIG_DIRECTORY = "/etc/hsm-client"
VAULT_CA_DIRECTORY = "/var/run/vault-tls-cert"
SERVICE_ACCOUNT_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
"""Every pod's own token, for the API server."""

TOKEN_SECONDS = 3600
ISTIOD_GROUP = 1337
"""istiod's, which has to write to the plugin's socket."""


def kms_values(authority: HsmKmsAuthority) -> dict[str, Any]:
    """Values of the istiod chart: three containers, the third of which is ready when the CA's chain is there.

    The vendor's chart reads `hsm`, which the public one does not know: for that, its general values put the same
    containers beside istiod. The source document does not tell by which variables the Vault client takes its settings;
    they are named as the values are. `istio.values` wins over all of it.
    Source: Anthos Service Mesh on-premises with an HSM and Vault.
    """
    return {
        "image": authority.istiod_image,
        "hsm": _hsm(authority),
        "global": {"jwtPolicy": authority.jwt_policy},
        # Beside istiod from its start to its end, in this order: the plugin needs what the client fetches.
        "initContainers": [_vault_client(authority), _plugin(authority)],
        "volumes": [
            {"name": "hsm-socket", "emptyDir": {}},
            # The PIN and the client's key are never on a disk.
            {"name": "hsm-credential", "emptyDir": {"medium": "Memory"}},
            {"name": "hsm-client-config", "configMap": {"name": "hsm-client-config"}},
            {"name": "vault-tls-cert", "configMap": {"name": "vault-tls-cert"}},
            *([_token_volume(authority)] if _has_own_token(authority) else []),
        ],
        "volumeMounts": [{"name": "hsm-socket", "mountPath": SOCKET_DIRECTORY}],
    }


def _hsm(authority: HsmKmsAuthority) -> dict[str, Any]:
    vault = authority.vault
    return {
        "enabled": True,
        "hsmKEKID": authority.kek_id,
        "hsmPluginImage": authority.plugin_image,
        "hsmSlotLabel": authority.slot_label,
        "vaultClientImage": authority.vault_client_image,
        "vaultAddr": vault.address,
        "vaultAuthPath": f"auth/{vault.auth_path}/login",
        "vaultAuthRole": vault.role,
        "vaultAuthJwtPath": authority.jwt_path,
        "vaultSecretPath": vault.api_path,
    }


def _vault_client(authority: HsmKmsAuthority) -> dict[str, Any]:
    hsm = _hsm(authority)
    return _beside_istiod(
        "vault-client",
        authority.vault_client_image,
        env={
            "VAULT_ADDR": hsm["vaultAddr"],
            "VAULT_CACERT": f"{VAULT_CA_DIRECTORY}/cert",
            "VAULT_AUTH_PATH": hsm["vaultAuthPath"],
            "VAULT_AUTH_ROLE": hsm["vaultAuthRole"],
            "VAULT_AUTH_JWT_PATH": hsm["vaultAuthJwtPath"],
            "VAULT_SECRET_PATH": hsm["vaultSecretPath"],
        },
        mounts=[
            {"name": "hsm-credential", "mountPath": CREDENTIAL_DIRECTORY},
            {"name": "vault-tls-cert", "mountPath": VAULT_CA_DIRECTORY, "readOnly": True},
            *(
                [{"name": "vault-token", "mountPath": str(_token_path(authority).parent), "readOnly": True}]
                if _has_own_token(authority)
                else []
            ),
        ],
    )


def _plugin(authority: HsmKmsAuthority) -> dict[str, Any]:
    return _beside_istiod(
        "hsm-plugin",
        authority.plugin_image,
        # P11_LIB, the HSM client's library, is the image's own.
        env={
            "P11_TOKEN": authority.slot_label,
            "P11_PIN_FILE": f"{CREDENTIAL_DIRECTORY}/pin",
            "ChrystokiConfigurationPath": CLIENT_CONFIG_DIRECTORY,
            "SOCKET": f"{SOCKET_DIRECTORY}/.sock",
            "KEK_ID": authority.kek_id,
        },
        mounts=[
            {"name": "hsm-socket", "mountPath": SOCKET_DIRECTORY},
            {"name": "hsm-credential", "mountPath": CREDENTIAL_DIRECTORY, "readOnly": True},
            {"name": "hsm-client-config", "mountPath": CLIENT_CONFIG_DIRECTORY, "readOnly": True},
        ],
    )


def _beside_istiod(name: str, image: str, *, env: dict[str, str], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "restartPolicy": "Always",
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "volumeMounts": mounts,
        "securityContext": {
            "runAsGroup": ISTIOD_GROUP,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _token_path(authority: HsmKmsAuthority) -> PurePosixPath:
    return PurePosixPath(authority.jwt_path)


def _has_own_token(authority: HsmKmsAuthority) -> bool:
    return authority.jwt_path != SERVICE_ACCOUNT_TOKEN


def _token_volume(authority: HsmKmsAuthority) -> dict[str, Any]:
    token = {
        "audience": authority.vault.audience,
        "expirationSeconds": TOKEN_SECONDS,
        "path": _token_path(authority).name,
    }
    return {"name": "vault-token", "projected": {"sources": [{"serviceAccountToken": token}]}}
