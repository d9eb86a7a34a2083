"""Tokens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lab.plugins.hashicorp.client import Refused, Vault
from lab.plugins.hashicorp.kind import Inputs, Kind, Properties, plain, snake, whole


class Token(Kind):
    """`vault:index/token:Token`, named by its accessor. A refresh renews one that ends within `renewMinLease`."""

    type = "vault:index/token:Token"
    replaced_by = ("*",)
    taken_over = ("renewMinLease", "renewIncrement")
    defaults: Mapping[str, Any] = {"displayName": "token"}
    computed = ("noParent", "numUses", "renewable")
    secret = ("clientToken", "wrappedToken", "wrappingAccessor")
    unordered = ("policies",)
    durations = ("ttl", "explicitMaxTtl", "period", "wrappingTtl")

    def id(self, inputs: Inputs) -> str | None:
        return None

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        wrapping, role = inputs.get("wrappingTtl"), inputs.get("roleName")
        left_out = ("roleName", "wrappingTtl", "metadata", "renewMinLease", "renewIncrement")
        body = {
            snake(name): whole(value) for name, value in {**self.defaults, **inputs}.items() if name not in left_out
        }
        body["meta"] = inputs.get("metadata") or {}
        path = f"auth/token/create/{role}" if role else "auth/token/create"
        made = vault.write(path, body, wrap_ttl=str(wrapping) if wrapping else None)
        if wrapping:
            wrap = made["wrap_info"]
            hidden: Properties = {"wrappedToken": wrap["token"], "wrappingAccessor": wrap["accessor"]}
            return wrap["wrapped_accessor"], {**hidden, "clientToken": ""}
        auth = made["auth"]
        return auth["accessor"], {"clientToken": auth["client_token"], "wrappedToken": "", "wrappingAccessor": ""}

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        found = self._look_up(vault, resource_id)
        if found is None:
            return None
        began, ends = (datetime.fromisoformat(found[name]) for name in ("issue_time", "expire_time"))
        least = known.get("renewMinLease")
        if found["renewable"] and least and (ends - datetime.now(UTC)).total_seconds() <= float(str(least)):
            increment = int(float(str(known.get("renewIncrement") or (ends - began).total_seconds())))
            vault.write("auth/token/renew-accessor", {"accessor": resource_id, "increment": increment})
            return self.read(vault, resource_id, {**known, "renewMinLease": None})
        hidden = ("clientToken", "wrappedToken", "wrappingAccessor")
        untold = (
            *("roleName", "ttl", "explicitMaxTtl", "period", "wrappingTtl", "noDefaultPolicy", "metadata"),
            *("renewMinLease", "renewIncrement"),
        )
        return {
            **{name: "" for name in hidden},
            **{name: known[name] for name in (*hidden, *untold) if known.get(name) is not None},
            "policies": plain([name for name in found["policies"] if name != "default"]),
            "noParent": found["orphan"],
            "renewable": found["renewable"],
            "displayName": found["display_name"].removeprefix("token-"),
            "numUses": float(found["num_uses"]),
            "leaseStarted": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "leaseDuration": float(int((ends - began).total_seconds())),
        }

    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        """Only the state changes."""

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        if self._look_up(vault, resource_id) is not None:
            vault.write("auth/token/revoke-accessor", {"accessor": resource_id})

    def _look_up(self, vault: Vault, accessor: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = vault.write("auth/token/lookup-accessor", {"accessor": accessor})["data"]
        except Refused as error:
            if "invalid accessor" in error.reason:
                return None
            raise
        return found
