"""Secrets in Vault's kv engine, version 1 or 2, as the `vault` program finds them: by their path alone.

VAULT_ADDR, VAULT_CACERT and VAULT_TOKEN say where and who; TLS is always verified.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hvac
from hvac.exceptions import Forbidden, InvalidPath, VaultDown, VaultError, VaultNotInitialized
from requests import RequestException
from requests.exceptions import SSLError

from authority.errors import AuthorityError

TIMEOUT_SECONDS = 10


def connect(environment: Mapping[str, str] = os.environ) -> hvac.Client:
    """A client of the Vault that the environment names. Raises AuthorityError when it does not say enough."""
    address, token = environment.get("VAULT_ADDR", ""), environment.get("VAULT_TOKEN", "")
    problems = []
    if not address.startswith("https://"):
        problems.append("VAULT_ADDR must be Vault's address, and begin with https://")
    # What is no header's value would be shown by the HTTP library's error.
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        problems.append("VAULT_TOKEN must be a token for Vault, without spaces or line ends")
    authority = environment.get("VAULT_CACERT")
    if authority and not Path(authority).is_file():
        problems.append(f"VAULT_CACERT names {authority}, which is no file")
    if problems:
        raise AuthorityError("; ".join(problems))
    # A redirection could lead elsewhere, without TLS, with the token.
    return hvac.Client(
        url=address, token=token, verify=authority or True, timeout=TIMEOUT_SECONDS, allow_redirects=False
    )


def read_field(client: hvac.Client, path: str, field: str) -> str:
    """One field of the secret at a path such as asm-c1/hsm. Raises AuthorityError; no value is ever in its text."""
    with _readable(client, f"read {path}"):
        mount, version, name = _locate(client, path)
        if version == 2:
            secret = client.secrets.kv.v2.read_secret_version(name, mount_point=mount, raise_on_deleted_version=True)
            values = secret["data"]["data"]
        else:
            values = client.secrets.kv.v1.read_secret(name, mount_point=mount)["data"]
    value = values.get(field)
    if not isinstance(value, str):
        raise AuthorityError(
            f"the secret {path} in Vault has no text in the field {field!r}; its fields: {', '.join(sorted(values))}"
        )
    return value


def write(client: hvac.Client, path: str, values: Mapping[str, str]) -> int | None:
    """Write the whole secret at once; the version that it is now, with kv version 2. Raises AuthorityError."""
    with _readable(client, f"write {path}"):
        mount, version, name = _locate(client, path)
        if version == 2:
            answer = client.secrets.kv.v2.create_or_update_secret(name, secret=dict(values), mount_point=mount)
            return int(answer["data"]["version"])
        # Without a method hvac reads the secret first, which who writes it need not be allowed.
        client.secrets.kv.v1.create_or_update_secret(name, secret=dict(values), method="POST", mount_point=mount)
        return None


def _locate(client: hvac.Client, path: str) -> tuple[str, int, str]:
    """The kv engine that holds a path, its version, and the path inside of it."""
    answer = client.adapter.get(f"/v1/sys/internal/ui/mounts/{path}")["data"]
    mount = answer["path"].rstrip("/")
    if answer["type"] != "kv":
        raise AuthorityError(f"{mount} in Vault is no kv engine but {answer['type']}")
    return mount, int((answer.get("options") or {}).get("version", 1)), path.removeprefix(f"{mount}/")


@contextmanager
def _readable(client: hvac.Client, what: str) -> Iterator[None]:
    where = f"Vault at {client.url}"
    try:
        yield
    except VaultDown:
        raise AuthorityError(f"cannot {what}: {where} is sealed; it must be unsealed first") from None
    except VaultNotInitialized:
        raise AuthorityError(f"cannot {what}: {where} is not initialised") from None
    except Forbidden:
        raise AuthorityError(
            f"{where} refuses to {what}: there is no such mount, or the policies of VAULT_TOKEN do not allow it, or "
            "it has expired (`vault token capabilities` tells)"
        ) from None
    except InvalidPath:
        raise AuthorityError(f"cannot {what}: {where} has no secret there") from None
    except VaultError as error:
        raise AuthorityError(f"cannot {what}: {where} answers: {', '.join(error.errors or ['nothing'])}") from None
    except SSLError:
        raise AuthorityError(
            f"cannot {what}: the certificate of {where} is not of the authority in VAULT_CACERT, or not for this name"
        ) from None
    except (LookupError, TypeError, ValueError):
        raise AuthorityError(f"cannot {what}: {where} does not answer as Vault's active server does") from None
    except (RequestException, OSError) as error:
        raise AuthorityError(f"cannot {what}: {where} cannot be reached: {type(error).__name__}") from None
