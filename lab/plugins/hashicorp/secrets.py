"""Secrets in kv mounts of both versions, and any other path of Vault's API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lab.plugins.base import PluginError, Problem
from lab.plugins.hashicorp.client import Vault
from lab.plugins.hashicorp.kind import Inputs, Kind, Properties, Written, plain, seconds, texts


class Secret(Written):
    """`vault:kv/secret:Secret`: of version 1."""

    type = "vault:kv/secret:Secret"
    path = "{path}"
    secret = ("dataJson", "data")
    json = ("dataJson",)

    def body(self, values: Inputs) -> dict[str, Any]:
        return dict(json.loads(str(values["dataJson"])))

    def told(self, found: Inputs, known: Inputs) -> Properties:
        return {"dataJson": json.dumps(found), "data": texts(found)}


class SecretV2(Kind):
    """`vault:kv/secretV2:SecretV2`: of version 2. Its latest version alone is deleted, unless told otherwise."""

    type = "vault:kv/secretV2:SecretV2"
    replaced_by = ("mount", "name")
    taken_over = ("cas", "deleteAllVersions", "disableRead")
    defaults: Mapping[str, Any] = {"deleteAllVersions": False, "disableRead": False}
    computed = ("customMetadata",)
    secret = ("dataJson", "dataJsonWo", "data")
    write_only = ("dataJsonWo",)
    json = ("dataJson",)

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        if len({"dataJson", "dataJsonWo"} & inputs.keys()) != 1:
            yield "dataJson", "or dataJsonWo is required, exactly one of them"

    def id(self, inputs: Inputs) -> str | None:
        return f"{str(inputs['mount']).strip('/')}/data/{str(inputs['name']).strip('/')}"

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        path = str(self.id(inputs))
        self._write(vault, path, inputs)
        return path, {}

    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        self._write(vault, resource_id, inputs)

    def _write(self, vault: Vault, path: str, inputs: Inputs) -> None:
        options = dict(inputs.get("options") or {})
        if (cas := inputs.get("cas")) is not None:
            options["cas"] = int(cas)
        data = json.loads(str(inputs.get("dataJson") or inputs.get("dataJsonWo")))
        vault.write(path, {"data": data, "options": options})
        if custom := inputs.get("customMetadata"):
            vault.write(
                _metadata(path),
                {
                    "custom_metadata": custom.get("data") or {},
                    "cas_required": custom.get("casRequired", False),
                    "max_versions": int(custom.get("maxVersions") or 0),
                    "delete_version_after": f"{int(float(str(custom.get('deleteVersionAfter') or 0)))}s",
                },
            )

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        mount, found, name = resource_id.partition("/data/")
        if not found:
            raise PluginError(f"{resource_id!r} is no id of {self.type}; it is like MOUNT/data/NAME")
        kept = ("cas", "options", "dataJsonWoVersion", "customMetadata", "deleteAllVersions", "disableRead")
        result: Properties = {**self.defaults, **{key: known[key] for key in kept if key in known}}
        result |= {"mount": mount, "name": name, "path": resource_id}
        if known.get("disableRead"):
            return {**result, **{key: known[key] for key in ("dataJson",) if key in known}, "data": {}, "metadata": {}}
        secret = vault.read(resource_id)
        if secret is None:
            return None
        if "dataJsonWoVersion" not in known:
            result |= {"dataJson": json.dumps(secret["data"]), "data": texts(secret["data"])}
        else:
            result["data"] = {}
        settings = vault.read(_metadata(resource_id)) or {}
        result["metadata"] = texts({key: value for key, value in secret["metadata"].items() if value is not None})
        result["customMetadata"] = {
            "data": plain(settings.get("custom_metadata") or {}),
            "casRequired": settings.get("cas_required", False),
            "maxVersions": float(settings.get("max_versions", 0)),
            "deleteVersionAfter": float(seconds(settings.get("delete_version_after")) or 0),
        }
        return result

    def compared(self, name: str, value: Any) -> Any:
        if name == "customMetadata":
            return {key: item for key, item in (value or {}).items() if item}
        return super().compared(name, value)

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        vault.delete(_metadata(resource_id) if state.get("deleteAllVersions") else resource_id)


class Endpoint(Written):
    """`vault:generic/endpoint:Endpoint`: any path that takes JSON."""

    type = "vault:generic/endpoint:Endpoint"
    path = "{path}"
    taken_over = ("disableRead", "disableDelete", "ignoreAbsentFields", "writeFields")
    defaults: Mapping[str, Any] = {"disableRead": False, "disableDelete": False, "ignoreAbsentFields": False}
    secret = ("dataJson",)
    json = ("dataJson",)

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        path = str(self.id(inputs))
        answer = vault.write(path, json.loads(str(inputs["dataJson"]))).get("data") or {}
        kept = {name: answer[name] for name in inputs.get("writeFields") or [] if name in answer}
        return path, {"writeData": texts(kept), "writeDataJson": json.dumps(kept)}

    def body(self, values: Inputs) -> dict[str, Any]:
        return dict(json.loads(str(values["dataJson"])))

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        if "dataJson" not in known:
            raise PluginError(f"{self.type} cannot be imported: what was written is not all that is read")
        result = {**self.defaults, **{key: known[key] for key in known if key not in ("id", "dataJsonWo")}}
        if known.get("disableRead"):
            return result
        found = vault.read(resource_id)
        if found is None:
            return None
        if known.get("ignoreAbsentFields"):
            given = json.loads(str(known["dataJson"]))
            found = {name: found.get(name, value) for name, value in given.items()}
        return {**result, "dataJson": json.dumps(found)}

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        if not state.get("disableDelete"):
            vault.delete(resource_id)


def _metadata(path: str) -> str:
    return path.replace("/data/", "/metadata/", 1)
