"""The PKI secrets engine: roots, intermediates, roles, certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import uuid4

from lab.plugins import sdk
from lab.plugins.base import PluginError
from lab.plugins.hashicorp.client import Refused, Vault
from lab.plugins.hashicorp.kind import Inputs, Kind, Properties, Written, plain, snake, whole

PREFIX = "vault:pkiSecret/secretBackend"


class Role(Written):
    """`vault:pkiSecret/secretBackendRole:SecretBackendRole`."""

    type = f"{PREFIX}Role:SecretBackendRole"
    path = "{backend}/roles/{name}"
    fields: Mapping[str, str] = {
        "organizationUnit": "ou",
        "organizations": "organization",
        "countries": "country",
        "localities": "locality",
        "provinces": "province",
        "streetAddresses": "street_address",
        "postalCodes": "postal_code",
        "keyUsages": "key_usage",
        "extKeyUsages": "ext_key_usage",
        "basicConstraintsValidForNonCa": "basic_constraints_valid_for_non_ca",
    }
    defaults: Mapping[str, Any] = {
        **dict.fromkeys(
            (
                *("allowLocalhost", "allowIpSans", "allowWildcardCertificates", "clientFlag", "enforceHostnames"),
                *("requireCn", "serverFlag", "useCsrCommonName", "useCsrSans"),
            ),
            True,
        ),
        "keyType": "rsa",
        "keyBits": 2048.0,
    }
    computed = (
        *("issuerRef", "ttl", "maxTtl", "keyUsages", "notBeforeDuration", "signatureBits", "serialNumberSource"),
        "cnValidations",
    )
    durations = ("ttl", "maxTtl", "notBeforeDuration")
    unsupported = (*Written.unsupported, "policyIdentifier", "parameterSet", "noStoreMetadata")

    def told(self, found: Inputs, known: Inputs) -> Properties:
        result = super().told(found, known)
        return result | {name: str(int(float(str(result[name])))) for name in self.durations if name in result}


class ConfigUrls(Written):
    """`vault:pkiSecret/secretBackendConfigUrls:SecretBackendConfigUrls`; it goes with its mount."""

    type = f"{PREFIX}ConfigUrls:SecretBackendConfigUrls"
    path = "{backend}/config/urls"
    deletable = False


class Issued(Kind):
    """What the engine makes once and only tells then: it is never changed, only made anew."""

    replaced_by = ("*",)
    path: ClassVar[str]
    """Where it is made, with `{property}`."""
    there: ClassVar[str]
    """What exists as long as it does, with `{property}`; empty: nothing that could be asked for."""
    gone_with: ClassVar[str] = ""
    """What its deletion deletes, with `{property}`."""
    untold = (
        *("backend", "type", "name", "revoke", "revokeWithKey", "autoRenew", "minSecondsRemaining"),
        *("jksPassword", "jksPrivateKeyAlias", "pkcs12Encoder", "pkcs12Password", "removeRootsFromChain"),
    )
    """Inputs that are not for the engine."""
    unsupported = (*Kind.unsupported, "jksPassword", "pkcs12Password", "parameterSet", "certMetadata")

    def id(self, inputs: Inputs) -> str | None:
        return None

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        body = {
            snake(name): ",".join(map(str, value)) if isinstance(value, list) else whole(value)
            for name, value in inputs.items()
            if name not in self.untold
        }
        path = self.path.format_map({**self.defaults, **inputs})
        answer = vault.write(path, body).get("data") or {}
        made: Properties = {**self.defaults, **inputs}
        made |= {name: plain(self.output(name, answer)) for name in self._outputs()}
        return self.name(made, path), made

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        if not known:
            raise PluginError(f"{self.type} cannot be imported: Vault tells of it only when it makes it")
        if self.there and not self._exists(vault, self.there.format_map(dict(known))):
            return None
        # What it was made of is kept as it is, and what came of it.
        return {name: value for name, value in known.items() if name in sdk.outputs(self.type)}

    def _exists(self, vault: Vault, path: str) -> bool:
        try:
            return vault.read(path) is not None
        except Refused as error:
            if any(words in error.reason for words in ("unable to find PKI", "no entry found", "not found")):
                return False
            raise

    def update(self, vault: Vault, resource_id: str, inputs: Inputs, state: Inputs) -> None:
        """Only the state changes."""

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        if self.gone_with:
            vault.delete(self.gone_with.format_map(dict(state)))

    def name(self, made: Inputs, path: str) -> str:
        """The id."""
        return path

    def output(self, name: str, answer: Inputs) -> Any:
        """An output, of Vault's answer."""
        return answer.get(snake(name), "")

    def _outputs(self) -> list[str]:
        return [name for name in sdk.outputs(self.type) if name not in sdk.inputs(self.type)]


class RootCert(Issued):
    """`vault:pkiSecret/secretBackendRootCert:SecretBackendRootCert`."""

    type = f"{PREFIX}RootCert:SecretBackendRootCert"
    path = "{backend}/root/generate/{type}"
    defaults: Mapping[str, Any] = {
        "format": "pem",
        "privateKeyFormat": "der",
        "keyType": "rsa",
        "keyBits": 2048.0,
        "maxPathLength": -1.0,
    }
    computed = ("issuerName", "keyName", "keyRef", "signatureBits", "usePss")
    durations = ("ttl", "notBeforeDuration")
    there = "{backend}/issuer/{issuerId}"
    gone_with = "{backend}/issuer/{issuerId}"

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        resource_id, made = super().create(vault, inputs)
        issuer = vault.read(self.there.format_map(made)) or {}
        return resource_id, {"issuerName": issuer.get("issuer_name", ""), "keyName": "", "keyRef": ""} | made


class IntermediateCertRequest(Issued):
    """`vault:pkiSecret/secretBackendIntermediateCertRequest:SecretBackendIntermediateCertRequest`."""

    type = f"{PREFIX}IntermediateCertRequest:SecretBackendIntermediateCertRequest"
    path = "{backend}/intermediate/generate/{type}"
    defaults: Mapping[str, Any] = {"format": "pem", "privateKeyFormat": "der", "keyType": "rsa", "keyBits": 2048.0}
    computed = ("keyName", "keyRef", "signatureBits")
    secret = ("privateKey",)
    there = "{backend}/key/{keyId}"

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        resource_id, made = super().create(vault, inputs)
        return resource_id, {"keyName": "", "keyRef": ""} | made


class IntermediateSetSigned(Issued):
    """`vault:pkiSecret/secretBackendIntermediateSetSigned:SecretBackendIntermediateSetSigned`."""

    type = f"{PREFIX}IntermediateSetSigned:SecretBackendIntermediateSetSigned"
    path = "{backend}/intermediate/set-signed"
    there = ""

    def output(self, name: str, answer: Inputs) -> Any:
        return answer.get(snake(name)) or []

    def name(self, made: Inputs, path: str) -> str:
        return f"{path}/{uuid4()}"

    def read(self, vault: Vault, resource_id: str, known: Inputs) -> Properties | None:
        result = super().read(vault, resource_id, known)
        there = all(self._exists(vault, f"{known['backend']}/issuer/{issuer}") for issuer in known["importedIssuers"])
        return result if there else None


class RootSignIntermediate(Issued):
    """`vault:pkiSecret/secretBackendRootSignIntermediate:SecretBackendRootSignIntermediate`."""

    type = f"{PREFIX}RootSignIntermediate:SecretBackendRootSignIntermediate"
    path = "{backend}/root/sign-intermediate"
    defaults: Mapping[str, Any] = {"format": "pem", "maxPathLength": -1.0, "useCsrValues": False}
    computed = ("issuerRef", "signatureBits", "skid", "usePss")
    taken_over = ("revoke",)
    durations = ("ttl", "notBeforeDuration")
    there = "{backend}/cert/{serialNumber}"

    def create(self, vault: Vault, inputs: Inputs) -> tuple[str, Properties]:
        resource_id, made = super().create(vault, inputs)
        chain = made["caChains"] = made["caChains"] or [made["issuingCa"]]
        made["certificateBundle"] = "\n".join([made["certificate"], *chain])
        return resource_id, made

    def output(self, name: str, answer: Inputs) -> Any:
        return answer.get("ca_chain", []) if name == "caChains" else super().output(name, answer)

    def name(self, made: Inputs, path: str) -> str:
        return f"{made['backend']}/{made['commonName']}"

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        _revoke(vault, state)


class Cert(Issued):
    """`vault:pkiSecret/secretBackendCert:SecretBackendCert`. One that is due is made anew by the next update, with
    `autoRenew`."""

    type = f"{PREFIX}Cert:SecretBackendCert"
    path = "{backend}/issue/{name}"
    defaults: Mapping[str, Any] = {
        "format": "pem",
        "privateKeyFormat": "der",
        "autoRenew": False,
        "minSecondsRemaining": 604800.0,
        "revoke": False,
    }
    computed = ("issuerRef",)
    taken_over = ("revoke", "revokeWithKey", "autoRenew", "minSecondsRemaining")
    durations = ("ttl",)
    secret = ("privateKey",)
    there = "{backend}/cert/{serialNumber}"

    def output(self, name: str, answer: Inputs) -> Any:
        if name == "renewPending":
            return False
        return "\n".join(answer.get("ca_chain") or []) if name == "caChain" else super().output(name, answer)

    def name(self, made: Inputs, path: str) -> str:
        return f"{made['backend']}/{made['name']}/{made['commonName']}"

    def delete(self, vault: Vault, resource_id: str, state: Inputs) -> None:
        _revoke(vault, state)


def _revoke(vault: Vault, state: Inputs) -> None:
    if state.get("revoke"):
        vault.write(f"{state['backend']}/revoke", {"serial_number": state["serialNumber"]})
