"""The real Vault, as a provider's settings say where it is: what it takes and refuses, in words for people."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import hvac
import requests
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.base import Plain, PluginError, Problem

TAKEN = {
    *("address", "caCertFile", "skipTlsVerify", "maxLeaseTtlSeconds", "maxRetries", "skipChildToken", "tokenName"),
    *("version", "pluginDownloadURL"),
}
"""The provider's settings that mean something here. There is nobody to try again for: `maxRetries` is only taken."""
CHILD_SECONDS = 1200
TIMEOUTS = (5, 60)
"""Seconds: to connect, and for an answer."""

T = TypeVar("T")


class Refused(PluginError):
    """Vault took the request and refused it; `reason` is in its own words."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def problems(settings: Mapping[str, Plain]) -> Iterator[Problem]:
    """What is wrong with a provider's settings (JSON in strings, as on the wire); they may be `UNKNOWN`."""
    for name in sorted(settings.keys() - TAKEN):
        if name == "token":
            yield name, "is not taken: the token comes from VAULT_TOKEN, so that it is in no state"
        else:
            yield name, "is not supported by the lab's stand-in for Vault's provider"
    address, ca = settings.get("address"), settings.get("caCertFile")
    if not address:
        yield "address", "is missing: Vault's URL, for example https://vault.example.com:8200"
    elif address != UNKNOWN and (urlsplit(str(address)).scheme != "https" or not urlsplit(str(address)).hostname):
        yield "address", f"is {address!r}, but must be an https:// URL: tokens and secrets travel there"
    if ca and ca != UNKNOWN and not Path(str(ca)).is_file():
        yield "caCertFile", f"is {ca!r}, which is no file: the PEM file of the CA of Vault's certificate"
    if str(settings.get("skipTlsVerify", "false")).lower() not in ("false", UNKNOWN):
        yield "skipTlsVerify", "must be false: Vault's certificate is always verified; give its CA as caCertFile"


class Vault:
    """One Vault, asked with a token made for this run, as the real provider asks."""

    def __init__(self, settings: Mapping[str, Plain], token: str) -> None:
        """:param settings: the provider's, of which `problems` finds none; `token` is the operator's."""
        if not token:
            raise PluginError("VAULT_TOKEN is not set: it must hold a token with which Vault's resources can be made")
        self.address = str(settings["address"])
        self._ca = str(settings.get("caCertFile") or "")
        self._client = hvac.Client(self.address, token, verify=self._ca or True, timeout=TIMEOUTS)
        self._client.session.trust_env = False  # no proxy of the caller's, and no CA but this one
        if str(settings.get("skipChildToken", "false")).lower() != "true":
            seconds = f"{int(float(str(settings.get('maxLeaseTtlSeconds') or CHILD_SECONDS)))}s"
            child = {"display_name": settings.get("tokenName") or "pulumi", "renewable": False}
            made = self.write("auth/token/create", {**child, "ttl": seconds, "explicit_max_ttl": seconds})
            self._client.token = made["auth"]["client_token"]

    def read(self, path: str) -> dict[str, Any] | None:
        """What is at a path; None where there is nothing."""
        answer = self._ask("read", path, lambda: self._client.read(path))
        return None if answer is None else cast(dict[str, Any], answer["data"])

    def write(self, path: str, data: Mapping[str, Any], wrap_ttl: str | None = None) -> dict[str, Any]:
        """Writes to a path: Vault's whole answer, empty where it has none."""

        def ask() -> Any:
            return self._client.adapter.post(f"/v1/{path}", json=dict(data), wrap_ttl=wrap_ttl)

        for _ in range(20):
            try:
                answer = self._ask("write", path, ask)
                return answer if isinstance(answer, dict) else {}
            except Refused as error:
                # A new kv mount of version 2 is not ready at once.
                if "Upgrading from non-versioned to versioned data" not in error.reason:
                    raise
                time.sleep(0.25)
        raise PluginError(f"Vault at {self.address} is still making the kv mount of {path} versioned; try again")

    def delete(self, path: str) -> None:
        """Deletes a path; nothing happens where there is nothing."""
        self._ask("delete", path, lambda: self._client.delete(path))

    def _ask(self, action: str, path: str, request: Callable[[], T]) -> T | None:
        where = f"Vault at {self.address} does not {action} {path}"
        try:
            return request()
        except hvac.exceptions.InvalidPath as error:
            if action == "write":
                raise Refused(f"{where}: {_words(error)}; is that mount or auth method there?", _words(error)) from None
            return None
        except hvac.exceptions.Forbidden as error:
            if "invalid token" in _words(error):
                advice = "the token in VAULT_TOKEN is unknown to it, revoked or expired; log in again"
            else:
                capability = {"read": "read", "write": "create, update", "delete": "delete"}[action]
                advice = f"a policy of the token in VAULT_TOKEN must give it the capability ({capability}) there"
            raise Refused(f"{where}: permission denied; {advice}", _words(error)) from None
        except hvac.exceptions.VaultDown as error:
            raise PluginError(
                f"{where}, it is sealed or not active ({_words(error)}): unseal it (`vault operator unseal`), then run "
                "this again; what was made before stays, and is not made twice"
            ) from None
        except hvac.exceptions.VaultError as error:
            raise Refused(f"{where}: {_words(error)}", _words(error)) from None
        except requests.exceptions.SSLError as error:
            ca = self._ca or "the CAs of this machine (set caCertFile)"
            raise PluginError(
                f"Vault at {self.address} shows a certificate that {ca} does not verify: {_cause(error)}. It must be "
                "signed by that CA, hold the address's host as a SAN, and not be expired"
            ) from None
        except requests.exceptions.RequestException as error:
            raise PluginError(
                f"Vault cannot be reached at {self.address}: {_cause(error)}. Is it running there, is the address "
                "right, does a firewall keep it away?"
            ) from None


def _words(error: Any) -> str:
    """What Vault says is wrong, on one line."""
    return "; ".join(" ".join(str(one).split()) for one in error.errors or [error.text or error])


def _cause(error: BaseException) -> str:
    """What went wrong in the end: the libraries between put words of their own around it."""
    inner = error.args[0] if error.args else None
    inner = getattr(inner, "reason", inner)
    words = re.sub(r"^(<[^>]*>|\w+\([^)]*\)): ", "", str(inner or error))
    return words.removeprefix("[SSL: CERTIFICATE_VERIFY_FAILED] ")
