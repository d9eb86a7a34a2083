"""The stand-in for Pulumi's vault plugin: it makes, reads, changes and deletes what a real Vault has, with `hvac`.

Inputs are held against the SDK's types (version 7.14 of the package, https://www.pulumi.com/registry/packages/vault/);
what a change replaces, defaults, ids and outputs follow the provider on which the package is built. What is gone from
Vault is gone from the state after a refresh, and what somebody changed there is shown and put right. Types are in
hashicorp/, by what they belong to. Vault's TLS is always verified, and the token comes from VAULT_TOKEN alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.provider.experimental.provider import (
    CheckRequest,
    CheckResponse,
    ConfigureRequest,
    ConfigureResponse,
    CreateRequest,
    CreateResponse,
    DeleteRequest,
    DiffRequest,
    DiffResponse,
    InvokeRequest,
    InvokeResponse,
    PropertyDiff,
    ReadRequest,
    ReadResponse,
    UpdateRequest,
    UpdateResponse,
)
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins import sdk
from lab.plugins.base import (
    Plain,
    Plugin,
    PluginError,
    Unfinished,
    change,
    checked,
    contains_unknown,
    named,
    plain_map,
    serve,
    token,
    wired,
)
from lab.plugins.hashicorp import client, kubernetes, pki, secrets, system, tokens
from lab.plugins.hashicorp.kind import Kind, Properties, zero

PROVIDER = "pulumi:providers:vault"

KINDS: Mapping[str, Kind] = {
    kind.type: kind
    for kind in (
        system.Mount(),
        system.AuthBackend(),
        system.Policy(),
        tokens.Token(),
        kubernetes.AuthBackendConfig(),
        kubernetes.AuthBackendRole(),
        secrets.Secret(),
        secrets.SecretV2(),
        secrets.Endpoint(),
        pki.RootCert(),
        pki.IntermediateCertRequest(),
        pki.IntermediateSetSigned(),
        pki.RootSignIntermediate(),
        pki.Role(),
        pki.ConfigUrls(),
        pki.Cert(),
    )
}
"""The resource types by token."""


def known_id(type_: str, inputs: Mapping[str, Plain]) -> str | None:
    """The id that a resource of Vault's gets when it is made; None for other types, and where Vault chooses it."""
    return KINDS[type_].id(inputs) if type_ in KINDS else None


def adopt(deployment: dict[str, Any]) -> list[str]:
    """Put what a killed run had begun to create in Vault among the resources of an exported deployment: their URNs.

    Whether it is there, a refresh finds out: it may hold an operator's secret by now, and Vault mounts nothing twice.
    """
    resources = deployment.setdefault("resources", [])
    there = {resource["urn"] for resource in resources}
    begun = [it["resource"] for it in deployment.get("pending_operations") or [] if it["type"] == "creating"]
    # A resource that is there is being replaced: the old one is still needed, and nothing is in its successor yet.
    found = [(it, known_id(it["type"], it["inputs"])) for it in begun if it["urn"] not in there]
    adopted = [{**it, "id": id_, "outputs": it["inputs"]} for it, id_ in found if id_]
    resources += adopted
    return [it["urn"] for it in adopted]


class VaultPlugin(Plugin):
    """Answers the engine for Vault's resource types."""

    def __init__(self) -> None:
        super().__init__("vault", metadata.version("pulumi_vault"))
        self.settings: Properties = {}
        self._vault: client.Vault | None = None

    @property
    def vault(self) -> client.Vault:
        """Vault, asked for the first time only when something is to be done there."""
        self.guard()
        if self._vault is None:
            if contains_unknown(self.settings):
                raise PluginError("the address of Vault is not known yet, so nothing can be asked of it")
            self._vault = client.Vault(self.settings, os.environ.get("VAULT_TOKEN", ""))
        return self._vault

    def _kind(self, urn_type: str) -> Kind:
        try:
            sdk.resource(token(urn_type))
            return KINDS[token(urn_type)]
        except sdk.UnknownType as error:
            raise PluginError(str(error)) from None
        except KeyError:
            known = ", ".join(KINDS)
            raise PluginError(
                f"{token(urn_type)} is no resource of the lab's vault stand-in; it has: {known}"
            ) from None

    async def check_config(self, request: CheckRequest) -> CheckResponse:
        settings = plain_map(request.new_inputs)
        found = [problem for problem in sdk.problems(PROVIDER, settings) if problem[0] not in client.TAKEN]
        found += client.problems(settings)
        return CheckResponse(inputs=request.new_inputs, failures=checked(request, found, {"token"}))

    async def configure(self, request: ConfigureRequest) -> ConfigureResponse:
        self.settings = {**request.variables, **plain_map(request.args)}
        return await super().configure(request)

    async def invoke(self, request: InvokeRequest) -> InvokeResponse:
        raise PluginError(f"{request.tok}: the lab's vault stand-in has resources only, no functions")

    async def check(self, request: CheckRequest) -> CheckResponse:
        kind = self._kind(request.type)
        given = named(request, sdk.inputs(kind.type).keys() - sdk.required(kind.type), ["name"])
        inputs = plain_map(given)
        found = list(sdk.problems(kind.type, inputs)) or list(kind.problems(inputs))
        hidden = {name: value.with_secret(True) for name, value in given.items() if name in kind.secret}
        return CheckResponse(inputs=given | hidden, failures=checked(request, found, kind.secret))

    async def diff(self, request: DiffRequest) -> DiffResponse:
        kind = self._kind(request.type)
        state, inputs = plain_map(request.old_state), plain_map(request.new_inputs)
        changes: dict[str, PropertyDiff] = {}
        replaces: list[str] = []
        for name in sdk.inputs(kind.type):
            if name in kind.write_only or not kind.differs(name, state.get(name), inputs.get(name)):
                continue
            if replace := kind.replaces(name):
                replaces.append(name)
            changes[name] = PropertyDiff(change(name in state, name in inputs, replace=replace), input_diff=False)
        # Two cannot be at one path.
        same = bool(replaces) and not contains_unknown(inputs) and kind.id(inputs) == request.resource_id
        return DiffResponse(
            changes=bool(changes),
            replaces=replaces,
            diffs=list(changes),
            detailed_diff=changes,
            delete_before_replace=same,
        )

    async def create(self, request: CreateRequest) -> CreateResponse:
        kind, inputs = self._kind(request.type), plain_map(request.properties)
        if request.preview:
            self.guard()
            return CreateResponse(properties=self._planned(kind, request.properties, {}))
        resource_id, made = kind.create(self.vault, inputs)
        properties = self._read_back(kind, resource_id, request.properties, inputs | made)
        return CreateResponse(resource_id=resource_id, properties=properties)

    async def update(self, request: UpdateRequest) -> UpdateResponse:
        kind, inputs, state = self._kind(request.type), plain_map(request.news), plain_map(request.olds)
        if request.preview:
            self.guard()
            return UpdateResponse(properties=self._planned(kind, request.news, state))
        kind.update(self.vault, request.resource_id, inputs, state)
        known = {name: value for name, value in state.items() if name not in sdk.inputs(kind.type)} | inputs
        return UpdateResponse(properties=self._read_back(kind, request.resource_id, request.news, known))

    async def read(self, request: ReadRequest) -> ReadResponse:
        kind, state = self._kind(request.type), plain_map(request.properties)
        found = self._found(kind, request.resource_id, state)
        if found is None:
            return ReadResponse("", properties={}, inputs={})
        properties = self._wired(kind, request.properties, found)
        # An import knows no inputs yet: it gets those that are not what they are without any.
        given = request.inputs.keys() or {
            name
            for name in sdk.inputs(kind.type).keys() & found.keys()
            if name in sdk.required(kind.type) or (name not in kind.computed and kind.differs(name, found[name], None))
        }
        inputs = {name: properties[name] for name in given if name in properties}
        inputs |= {name: value for name, value in request.inputs.items() if name in kind.write_only}
        return ReadResponse(request.resource_id, properties=properties, inputs=inputs)

    async def delete(self, request: DeleteRequest) -> None:
        self._kind(request.type).delete(self.vault, request.resource_id, plain_map(request.properties))

    def _found(self, kind: Kind, resource_id: str, known: Properties) -> Properties | None:
        """What is in Vault, with every output that the SDK promises."""
        found = kind.read(self.vault, resource_id, known)
        if found is None:
            return None
        missing = sdk.always(sdk.resource(kind.type)) - found.keys()
        return {name: zero(kind.type, name) for name in missing} | found

    def _planned(self, kind: Kind, inputs: Mapping[str, PropertyValue], state: Properties) -> dict[str, PropertyValue]:
        """What a preview knows of the outputs."""
        given = {name: value for name, value in plain_map(inputs).items() if name not in kind.write_only}
        unknown = dict.fromkeys(sdk.always(sdk.resource(kind.type)), UNKNOWN)
        return self._wired(kind, inputs, {**unknown, **kind.defaults, **state, **given})

    def _read_back(
        self, kind: Kind, resource_id: str, given: Mapping[str, PropertyValue], known: Properties
    ) -> dict[str, PropertyValue]:
        """The outputs of what Vault has just taken. It is in the state from now on, whatever becomes of this."""
        try:
            found = self._found(kind, resource_id, known)
            if found is None:
                raise PluginError(f"{resource_id} is not in Vault, although it took it: has somebody deleted it?")
        except PluginError as error:
            raise Unfinished(str(error), resource_id, self._wired(kind, given, known)) from None
        return self._wired(kind, given, found)

    def _wired(
        self, kind: Kind, before: Mapping[str, PropertyValue], values: Mapping[str, Plain]
    ) -> dict[str, PropertyValue]:
        """Properties for the wire. What is only written in another way stays as it was."""
        earlier = plain_map(before)
        kept = {
            name: earlier[name] if name in earlier and kind.compared(name, earlier[name]) == kind.compared(name, value)
            else value
            for name, value in values.items()
            if name in sdk.outputs(kind.type) and name not in kind.write_only
        }  # fmt: skip
        outputs = wired(before, kept)
        return outputs | {name: outputs[name].with_secret(True) for name in kind.secret if name in outputs}


def plugin() -> VaultPlugin:
    """The stand-in, ready to be served."""
    return VaultPlugin()


if __name__ == "__main__":
    serve(plugin(), sys.argv[1:])
