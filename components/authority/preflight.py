"""Whether Vault is there and lets its operator in, asked before anything is made."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from settings.authority import VaultSettings
from settings.model import Problem

TIMEOUT_SECONDS = 10


def preflight(settings: VaultSettings) -> list[Problem]:
    """Ask Vault for its state, and for what the operator's token (VAULT_TOKEN or ~/.vault-token) may do.

    Returns what is wrong, with keys below the section `authority.vault`; the first thing that is wrong hides the rest.
    A standby passes: it hands requests on.
    """
    # Imported here, so that a stack without Vault does not load its client.
    import hvac
    from hvac.exceptions import Forbidden, VaultError
    from requests.exceptions import ConnectionError, RequestException, SSLError, Timeout

    ca = Path(settings.ca).expanduser()
    try:
        x509.load_pem_x509_certificates(ca.read_bytes())
    except OSError as error:
        return [
            Problem(key="ca", message=f"{ca}: {error.strerror}; it takes the file of the CA of Vault's certificate")
        ]
    except ValueError:
        return [Problem(key="ca", message=f"{ca}: does not hold certificates in PEM")]

    client = hvac.Client(url=settings.address, verify=str(ca), timeout=TIMEOUT_SECONDS)
    where = f"Vault at {settings.address}"
    try:
        # Each state answers with a status code of its own; as 200 they all come with their words.
        health = client.sys.read_health_status(
            method="GET",
            standby_ok=True,
            standby_code=200,
            performance_standby_code=200,
            dr_secondary_code=200,
            sealed_code=200,
            uninit_code=200,
        )
        if not isinstance(health, dict) or "sealed" not in health:
            return [Problem(key="address", message=f"{where} does not answer as Vault does")]
        if not health["initialized"]:
            return [
                Problem(key="address", message=f"{where} is not initialized: `vault operator init`, then unseal it")
            ]
        if health["sealed"]:
            return [Problem(key="address", message=f"{where} is sealed: `vault operator unseal`, then run this again")]
        if not client.token:
            return [Problem(key="address", message=f"there is no token for {where}: `vault login`, or set VAULT_TOKEN")]
        capabilities = client.sys.get_capabilities(paths=_written(settings))["data"]
    except SSLError as error:
        return [Problem(key="ca", message=f"{ca}: does not vouch for {where}: {_reason(error)}")]
    except (ConnectionError, Timeout) as error:
        return [Problem(key="address", message=f"{where} does not answer: {_reason(error)}")]
    except Forbidden:
        return [
            Problem(
                key="address",
                message=f"{where} refuses the token (VAULT_TOKEN or ~/.vault-token): it has expired, is another "
                "Vault's, or lacks the policy `default`; `vault login` gets another",
            )
        ]
    except (VaultError, RequestException) as error:
        return [Problem(key="address", message=f"{where} does not answer as it should: {_reason(error)}")]
    lacking = [path for path in _written(settings) if not _may_write(path, capabilities[path])]
    if not lacking:
        return []
    return [
        Problem(
            key="address",
            message=f"the token for {where} may not write to {', '.join(lacking)}; "
            "docs/environments/onprem.md has the policy that it needs",
        )
    ]


def _written(settings: VaultSettings) -> list[str]:
    """Paths in Vault's API that are written to."""
    return [
        f"sys/mounts/{settings.mount}",
        f"sys/policies/acl/{settings.policy}",
        f"sys/auth/{settings.auth_path}",
        f"auth/{settings.auth_path}/config",
        f"auth/{settings.auth_path}/role/{settings.role}",
        *([f"{settings.mount}/metadata/hsm"] if settings.kv_version == 2 else []),
    ]


def _may_write(path: str, capabilities: list[str]) -> bool:
    needed = {"create", "update", *(["sudo"] if path.startswith("sys/auth/") else [])}
    return "root" in capabilities or needed <= set(capabilities)


def _reason(error: BaseException) -> str:
    """The innermost cause: requests wraps it several times."""
    inner = [cause for cause in (getattr(error, "reason", None), *error.args) if isinstance(cause, Exception)]
    return _reason(inner[0]) if inner else str(error)
