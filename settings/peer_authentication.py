"""Settings of the scenario `peer_authentication`: modes of mutual TLS (source: KANS 7, security)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from settings.model import Model, matching

Place = Literal["permissive", "strict", "disable", "port-level", "legacy"]
"""Each in a namespace of its own: three by the mode of their PeerAuthentication, one that lets a single port off the
mesh's mode, and one without sidecars."""

PLACES: tuple[Place, ...] = get_args(Place)


class PeerAuthenticationSettings(Model):
    """Namespaces that differ in what their workloads accept, with a small server in each."""

    prefix: Annotated[
        str,
        matching(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", "lower-case letters, digits and '-', a letter first, at most 40"),
    ] = "peer-authentication"
    """What the namespaces' names begin with; the place follows, for example peer-authentication-strict."""

    image: str = "docker.io/mccutchen/go-httpbin:2.26.0"
    """The servers': go-httpbin, which answers at /headers with what it was asked with."""

    @property
    def namespaces(self) -> Mapping[Place, str]:
        """Each place's namespace."""
        return {place: f"{self.prefix}-{place}" for place in PLACES}

    @property
    def made_namespaces(self) -> tuple[tuple[str, str], ...]:
        """The namespaces that it makes: key in this section, name."""
        return tuple(("prefix", namespace) for namespace in self.namespaces.values())
