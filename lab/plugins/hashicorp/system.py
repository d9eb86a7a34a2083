"""Mounts of secrets engines, auth methods and policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.base import PluginError, Problem
from lab.plugins.hashicorp.client import Refused, Vault
from lab.plugins.hashicorp.kind import Inputs, Kind, Properties, Written, plain, seconds, snake


class Mounted(Kind):
    """What Vault mounts at a path: made at once, with its configuration; tuned afterwards."""

    place: ClassVar[str]
    """Where mounts of this sort are in Vault's API."""
    words: ClassVar[str]
    """What they are called on Vault's command line."""

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        path = str(inputs.get("path", ""))
        if path != path.strip("/"):
            yield "path", f"is {path!r}, but must neither begin nor end with a slash"

    def id(self, inputs: Inputs) -> str | None:
        return str(inputs.get("path") or inputs["type"])

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        path = str(self.id(inputs))
        try:
            vault.write(f"{self.place}/{path}", self.whole(inputs))
        except Refused as error:
            if "path is already in use" not in error.reason:
                raise
            raise PluginError(
                f"{error}. Something is mounted there already: another stack's, or what a killed run of this one has "
                "made and not noted down. If it is another's, choose another path. If it is this one's, take it over, "
                f"with what it holds: `pulumi import {self.type} NAME {path}`, with the --parent and --provider that "
                f"this resource has; or take it away: `vault {self.words} disable {path}`"
            ) from None
        return path, {}

    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        vault.write(f"{self.place}/{resource_id}/tune", self.changes(inputs, state))

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        vault.delete(f"{self.place}/{resource_id}")

    def found(self, vault: Vault, resource_id: str) -> dict[str, Any] | None:
        """What Vault says of the mount."""
        try:
            return vault.read(f"{self.place}/{resource_id}")
        except Refused as error:
            # Vault's answer to the question for a mount that is not there.
            if "No secret engine mount" in error.reason or "No auth engine" in error.reason:
                return None
            raise

    def whole(self, inputs: Inputs) -> dict[str, Any]:
        """What makes the mount."""
        raise NotImplementedError

    def changes(self, inputs: Inputs, state: Inputs) -> dict[str, Any]:
        """What tunes it."""
        raise NotImplementedError


class Mount(Mounted):
    """`vault:index/mount:Mount`, of any type of secrets engine that Vault has built in."""

    type = "vault:index/mount:Mount"
    place = "sys/mounts"
    words = "secrets"
    LEASES: Mapping[str, str] = {"defaultLeaseTtlSeconds": "default_lease_ttl", "maxLeaseTtlSeconds": "max_lease_ttl"}
    HEADERS = (
        *("auditNonHmacRequestKeys", "auditNonHmacResponseKeys"),
        *("passthroughRequestHeaders", "allowedResponseHeaders", "delegatedAuthAccessors"),
    )
    # An id cannot change in an update, so a new path is a new mount.
    replaced_by = ("path", "type", "local", "sealWrap", "externalEntropyAccess", "forceNoCache")
    computed = (*LEASES, "forceNoCache", "sealWrap", "auditNonHmacRequestKeys", "auditNonHmacResponseKeys")

    def whole(self, inputs: Inputs) -> dict[str, Any]:
        config: dict[str, Any] = {field: f"{int(inputs.get(name) or 0)}s" for name, field in self.LEASES.items()}
        config |= {snake(name): inputs[name] for name in (*self.HEADERS, "listingVisibility") if name in inputs}
        config |= {snake(name): inputs[name] for name in ("forceNoCache", "pluginVersion") if name in inputs}
        flags = {snake(name): inputs.get(name, False) for name in ("local", "sealWrap", "externalEntropyAccess")}
        return {
            "type": inputs["type"],
            "description": inputs.get("description", ""),
            "options": inputs.get("options") or {},
            "config": config,
            **flags,
        }

    def changes(self, inputs: Inputs, state: Inputs) -> dict[str, Any]:
        leases = {field: f"{int(inputs.get(name, state.get(name)) or 0)}s" for name, field in self.LEASES.items()}
        given = {
            snake(name): inputs.get(name, [] if name in self.HEADERS else {} if name == "options" else "")
            for name in (*self.HEADERS, "listingVisibility", "options", "description", "pluginVersion")
            if self.differs(name, state.get(name), inputs.get(name))
        }
        return {**leases, **given}

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        found = self.found(vault, resource_id)
        if found is None:
            return None
        config, options = found["config"], dict(found["options"] or {})
        type_ = found["type"]
        if known.get("type") == "kv-v2" and type_ == "kv" and options.get("version") == "2":
            # Its other name, which says the version.
            type_, options = "kv-v2", options if known.get("options") else {}
        return {
            "path": resource_id,
            "type": type_,
            "description": found["description"],
            "options": plain(options),
            "accessor": found["accessor"],
            "local": found["local"],
            "sealWrap": found["seal_wrap"],
            "externalEntropyAccess": found["external_entropy_access"],
            "forceNoCache": config["force_no_cache"],
            "listingVisibility": config.get("listing_visibility", ""),
            **{name: float(config[field]) for name, field in self.LEASES.items()},
            **{name: plain(config.get(snake(name)) or []) for name in self.HEADERS},
            **{name: known[name] for name in ("pluginVersion",) if name in known},
        }


class AuthBackend(Mounted):
    """`vault:index/authBackend:AuthBackend`."""

    type = "vault:index/authBackend:AuthBackend"
    place = "sys/auth"
    words = "auth"
    TUNE: Mapping[str, Any] = {
        "defaultLeaseTtl": "",
        "maxLeaseTtl": "",
        "listingVisibility": "",
        "tokenType": "default-service",
        "auditNonHmacRequestKeys": [],
        "auditNonHmacResponseKeys": [],
        "passthroughRequestHeaders": [],
        "allowedResponseHeaders": [],
    }
    """Property of `tune` -> what it is when left out."""
    replaced_by = ("path", "type", "local")
    computed = ("path", "tune")
    taken_over = ("disableRemount",)

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        tune = inputs.get("tune")
        for name in ("defaultLeaseTtl", "maxLeaseTtl"):
            value = tune.get(name) if isinstance(tune, dict) else None
            if value not in (None, UNKNOWN) and seconds(value) is None:
                yield f"tune.{name}", "is no duration; it is seconds, or for example 1h30m"

    def compared(self, name: str, value: Any) -> Any:
        return self._tune(value) if name == "tune" and isinstance(value, dict) else super().compared(name, value)

    def _tune(self, tune: Inputs) -> dict[str, Any]:
        """A whole configuration, as Vault takes it."""
        given = {name: tune.get(name) or default for name, default in self.TUNE.items()}
        leases = {name: f"{seconds(given[name])}s" for name in ("defaultLeaseTtl", "maxLeaseTtl")}
        return {snake(name): value for name, value in (given | leases).items()}

    def whole(self, inputs: Inputs) -> dict[str, Any]:
        return {
            "type": inputs["type"],
            "description": inputs.get("description", ""),
            "local": inputs.get("local", False),
            "config": self._tune(inputs.get("tune") or {}),
        }

    def changes(self, inputs: Inputs, state: Inputs) -> dict[str, Any]:
        tune = inputs.get("tune", state.get("tune"))
        return {
            "description": inputs.get("description", ""),
            **self._tune(tune or {}),
        }

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        found = self.found(vault, resource_id)
        if found is None:
            return None
        config = found["config"]
        tune = {name: plain(config.get(snake(name)) or default) for name, default in self.TUNE.items()}
        tune |= {name: f"{int(config[snake(name)])}s" for name in ("defaultLeaseTtl", "maxLeaseTtl")}
        return {
            "path": resource_id,
            "type": found["type"],
            "description": found["description"],
            "local": found["local"],
            "accessor": found["accessor"],
            "tune": tune,
            "disableRemount": known.get("disableRemount", False),
        }


class Policy(Written):
    """`vault:index/policy:Policy`."""

    type = "vault:index/policy:Policy"
    path = "{name}"
    api = "sys/policies/acl/{id}"
    taken_over = ("allowOverwrite",)
    defaults: Mapping[str, Any] = {"allowOverwrite": True}

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        name = str(inputs.get("name", ""))
        if name not in (UNKNOWN, name.lower()):
            yield "name", f"is {name!r}, which Vault would call {name.lower()!r}: names of policies are in lower case"

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        name = str(self.id(inputs))
        if inputs.get("allowOverwrite") is False and vault.read(self.api.format(id=name)) is not None:
            raise PluginError(
                f"Vault at {vault.address} has a policy {name} already, and allowOverwrite is false: choose another "
                f"name, or take it over with `pulumi import {self.type} NAME {name}`"
            )
        return super().create(vault, inputs)

    def body(self, values: Inputs) -> dict[str, Any]:
        return {"policy": values["policy"]}
