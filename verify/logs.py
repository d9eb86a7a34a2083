"""Envoy's access log, in the mesh's own format."""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.mesh.istio import ACCESS_LOG_FORMAT

BLACK_HOLE = "BlackHoleCluster"
BLOCKING_ROUTE = "block_all"
"""What REGISTRY_ONLY gives http requests to unknown hosts: a route of its own, which answers 502."""

RBAC_DENIED = "rbac_access_denied"
NO_FILTER_CHAIN = "filter_chain_not_found"
"""What a listener says of a connection that no server of it is for."""

VIA_UPSTREAM = "via_upstream"
"""What Envoy says of an answer that is the other side's own."""


@dataclass(frozen=True)
class Cluster:
    """A service as a proxy names it: outbound|port|subset|host."""

    port: int
    subset: str
    host: str

    @classmethod
    def parse(cls, name: str) -> Cluster | None:
        """None for what is no service outside the pod (BlackHoleCluster, inbound|...)."""
        direction, *rest = name.split("|")
        if direction != "outbound" or len(rest) != 3 or not rest[0].isdigit():
            return None
        return cls(int(rest[0]), rest[1], rest[2])


@dataclass(frozen=True)
class AccessLogLine:
    """A line of an access log; `-` where Envoy had nothing to say."""

    text: str
    response_code: str
    response_flags: str
    response_code_details: str
    connection_termination_details: str
    upstream_transport_failure_reason: str
    user_agent: str
    upstream_host: str
    """Address and port of the other side."""

    upstream_cluster: str
    upstream_local_address: str
    """The proxy's own address and port on that connection."""

    downstream_local_address: str
    downstream_remote_address: str
    requested_server_name: str
    route_name: str
    peer: str
    """SPIFFE id of the caller's certificate."""

    def __str__(self) -> str:
        return self.text

    @property
    def kept(self) -> bool:
        """Whether a sidecar kept it at home because it knows no such host (REGISTRY_ONLY)."""
        return self.upstream_cluster == BLACK_HOLE or self.route_name == BLOCKING_ROUTE

    @property
    def refused(self) -> bool:
        """Whether an AuthorizationPolicy refused the request, or the connection."""
        return any(
            details.startswith(RBAC_DENIED)
            for details in (self.response_code_details, self.connection_termination_details)
        )

    @property
    def upstream(self) -> Cluster | None:
        """The service to which it was sent; None when it was sent nowhere, or to something else."""
        return Cluster.parse(self.upstream_cluster)


_OPERATORS = {
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "user_agent": "%REQ(USER-AGENT)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
}


def _expression() -> re.Pattern[str]:
    """The format as a regular expression, so that it is written down in one place only."""
    names = {operator: name for name, operator in _OPERATORS.items()}
    pattern, quoted = "", False
    for piece in re.split(r"(%[^%]+%)", ACCESS_LOG_FORMAT.strip()):
        if piece.startswith("%"):
            # Within quotes a value may have spaces; outside it never has.
            value = '[^"]*' if quoted else r"\S+"
            pattern += f"(?P<{names[piece]}>{value})" if piece in names else value
        else:
            pattern += re.escape(piece)
            quoted ^= piece.count('"') % 2 == 1
    return re.compile(pattern)


_LINE = _expression()


def parse(line: str) -> AccessLogLine | None:
    """Read one line; None when it is no line of the access log (Envoy's own messages are in between)."""
    found = _LINE.fullmatch(line.strip())
    return AccessLogLine(text=line.strip(), **found.groupdict()) if found else None
