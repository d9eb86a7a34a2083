"""The base of every settings model, and the types that several of them use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


def matching(pattern: str, meaning: str) -> AfterValidator:
    """A check that a whole string matches; `meaning` says in words what would be right."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {meaning}")
        return value

    return AfterValidator(check)


_LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"

DnsLabel = Annotated[
    str, matching(_LABEL, "lower-case letters, digits and, between them, '-', at most 63 (a DNS label)")
]
"""A Kubernetes object name of one label (RFC 1123)."""

Namespace = Annotated[
    DnsLabel,
    matching(r"(?!(default|kube-system|kube-public|kube-node-lease)$).*", "a namespace that Kubernetes does not make"),
]
"""A namespace that the program makes."""

HostName = Annotated[
    str, matching(rf"({_LABEL}\.)+{_LABEL}", "a fully qualified host name, for example www.example.com")
]
"""A fully qualified host name without the trailing dot."""

CertificateName = Annotated[
    str, matching(rf"(\*\.)?({_LABEL}\.)+{_LABEL}", "a host name or a wildcard, for example *.example.com")
]
"""A host name of a certificate; its first label may be `*`."""

Cidr = IPv4Network
"""An IPv4 network in CIDR notation without host bits, for example 10.0.0.0/24."""

Port = Annotated[int, Field(ge=1, le=65535)]
NodePort = Annotated[int, Field(ge=30000, le=32767)]
Hours = Annotated[int, Field(ge=1)]
Quantity = Annotated[
    str, matching(r"[0-9]+(\.[0-9]+)?(m|k|M|G|Ki|Mi|Gi)?", "a Kubernetes quantity, for example 100m or 128Mi")
]
"""A Kubernetes quantity, for example 100m or 128Mi."""


class Model(BaseModel):
    """A section of the settings: camelCase keys in YAML, unknown keys refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, defer_build=True)

    def problems(self) -> Iterator[Problem]:
        """What is wrong between the values of this section although each alone is right."""
        return iter(())


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong in the configuration."""

    key: str
    """Where: the path below `meshgate:`, for example ingress.gateways.simple."""

    message: str
    """What is wrong and what would be right."""

    def below(self, parent: str) -> Problem:
        """The same problem seen from one level further out."""
        return Problem(key=f"{parent}.{self.key}" if self.key else parent, message=self.message)


class Replicas(Model):
    """How many pods a Deployment has: its HorizontalPodAutoscaler moves between the two."""

    min: Annotated[int, Field(ge=1)] = 2
    max: Annotated[int, Field(ge=1)] = 5

    def problems(self) -> Iterator[Problem]:
        if self.min > self.max:
            yield Problem(key="min", message=f"is {self.min}, more than max ({self.max})")


class Resources(Model):
    """What a container asks for; its limits stay those of the chart."""

    cpu: Quantity = "100m"
    memory: Quantity = "128Mi"
