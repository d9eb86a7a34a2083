"""The auth method `kubernetes`: its configuration and its roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pulumi.runtime.rpc import UNKNOWN

from lab.plugins.base import Problem
from lab.plugins.hashicorp.kind import Inputs, Properties, Written

REVIEWER = "tokenReviewerJwt"


class AuthBackendConfig(Written):
    """`vault:kubernetes/authBackendConfig:AuthBackendConfig`. Vault cannot forget a configuration: it goes with the
    auth method."""

    type = "vault:kubernetes/authBackendConfig:AuthBackendConfig"
    path = "auth/{backend}/config"
    # Like the real provider: Vault itself would leave the issuer alone, and TokenReview checks it.
    defaults: Mapping[str, Any] = {"backend": "kubernetes", "disableIssValidation": False, "disableLocalCaJwt": False}
    computed = ("disableIssValidation", "disableLocalCaJwt", "useAnnotationsAsAliasMetadata")
    secret = (REVIEWER, f"{REVIEWER}Wo")
    write_only = (f"{REVIEWER}Wo",)
    deletable = False

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        if {REVIEWER, f"{REVIEWER}Wo"} <= inputs.keys():
            yield REVIEWER, f"and {REVIEWER}Wo are both given; at most one of them must be"
        if f"{REVIEWER}Wo" in inputs and f"{REVIEWER}WoVersion" not in inputs:
            yield f"{REVIEWER}WoVersion", f"is required beside {REVIEWER}Wo: a new version tells that it changed"

    def body(self, values: Inputs) -> dict[str, Any]:
        body = super().body(values)
        body.pop("token_reviewer_jwt_wo_version", None)
        if (hidden := body.pop("token_reviewer_jwt_wo", None)) is not None:
            body["token_reviewer_jwt"] = hidden
        return body

    def told(self, found: Inputs, known: Inputs) -> Properties:
        result = super().told({name: value for name, value in found.items() if name != "token_reviewer_jwt"}, known)
        if not found.get("token_reviewer_jwt_set", True):
            # All that Vault tells of it: somebody took it away.
            for name in (REVIEWER, f"{REVIEWER}WoVersion"):
                result.pop(name, None)
        return result


class AuthBackendRole(Written):
    """`vault:kubernetes/authBackendRole:AuthBackendRole`."""

    type = "vault:kubernetes/authBackendRole:AuthBackendRole"
    path = "auth/{backend}/role/{roleName}"
    defaults: Mapping[str, Any] = {"backend": "kubernetes"}
    computed = ("aliasNameSource",)
    unordered = (*("boundServiceAccountNames", "boundServiceAccountNamespaces", "tokenBoundCidrs", "tokenPolicies"),)

    def problems(self, inputs: Inputs) -> Iterator[Problem]:
        yield from super().problems(inputs)
        names, namespaces = (inputs.get(f"boundServiceAccount{what}") for what in ("Names", "Namespaces"))
        if names == ["*"] and namespaces == ["*"]:
            yield "boundServiceAccountNames", "and boundServiceAccountNamespaces cannot both be '*': name the accounts"
        if not namespaces and not inputs.get("boundServiceAccountNamespaceSelector") and namespaces != UNKNOWN:
            yield "boundServiceAccountNamespaces", "or boundServiceAccountNamespaceSelector is required: where they are"

    def compared(self, name: str, value: Any) -> Any:
        # Two words for a token of the kind that is usual.
        usual = name == "tokenType" and value in ("default", "default-service")
        return None if usual else super().compared(name, value)
