"""The security policies of TLS listeners, as far as the lab's NLB knows them: by the versions of TLS that they allow.

Their ciphers are OpenSSL's defaults here. Reference: "Security policies for your Network Load Balancer" of AWS.
"""

from collections.abc import Iterator

DEFAULT_POLICY = "ELBSecurityPolicy-2016-08"

Versions = tuple[str, str]
"""Lowest and highest, as HAProxy names them."""


def _policies() -> Iterator[tuple[str, Versions]]:
    for name, lowest in {
        "2016-08": "TLSv1.0",
        "TLS-1-0-2015-04": "TLSv1.0",
        "TLS-1-1-2017-01": "TLSv1.1",
        "TLS-1-2-2017-01": "TLSv1.2",
        "TLS-1-2-Ext-2018-06": "TLSv1.2",
        "FS-2018-06": "TLSv1.0",
        "FS-1-1-2019-08": "TLSv1.1",
        "FS-1-2-2019-08": "TLSv1.2",
        "FS-1-2-Res-2019-08": "TLSv1.2",
        "FS-1-2-Res-2020-10": "TLSv1.2",
    }.items():
        yield f"ELBSecurityPolicy-{name}", (lowest, "TLSv1.2")
    for name, lowest in {
        "1-0": "TLSv1.0",
        "1-1": "TLSv1.1",
        "1-2": "TLSv1.2",
        "1-2-Res": "TLSv1.2",
        "1-2-Ext1": "TLSv1.2",
        "1-2-Ext2": "TLSv1.2",
        "1-3": "TLSv1.3",
    }.items():
        for suffix in ("2021-06", "FIPS-2023-04", "PQ-2025-09", "FIPS-PQ-2025-09"):
            yield f"ELBSecurityPolicy-TLS13-{name}-{suffix}", (lowest, "TLSv1.3")


POLICIES = dict(_policies())
ALPN = {
    "None": (),
    "HTTP1Only": ("http/1.1", "http/1.0"),
    "HTTP2Only": ("h2",),
    "HTTP2Optional": ("http/1.1", "http/1.0", "h2"),
    "HTTP2Preferred": ("h2", "http/1.1", "http/1.0"),
}
"""ALPN policies and the protocols that they offer, in their order."""
