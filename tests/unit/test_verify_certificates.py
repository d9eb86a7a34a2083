"""Chains as servers present them."""

from __future__ import annotations

from cryptography.x509 import Certificate

from verify import certificates
from verify.certificates import authority, chain_faults, client, common_name

ROOT = authority(common_name("root"))
LEAF = client(common_name("leaf"), ROOT)
STRANGER = authority(common_name("root"))


def _faults(*presented: Certificate, root: Certificate | None = ROOT.certificate) -> list[str]:
    return chain_faults(presented, root)


def test_a_leaf_of_the_root_itself_has_no_intermediate() -> None:
    assert _faults(LEAF.certificate) == ["the server presented no intermediate"]
    assert _faults(LEAF.certificate, ROOT.certificate) == [
        "the leaf is issued by the root itself, not by an intermediate"
    ]


def test_without_a_known_root_what_is_presented_must_fit() -> None:
    assert _faults(LEAF.certificate, root=None) == []
    assert _faults(LEAF.certificate, ROOT.certificate, root=None) == []
    # The same name, another key.
    assert _faults(LEAF.certificate, STRANGER.certificate, root=None) == ["leaf is not issued by root"]


def test_nothing_presented() -> None:
    assert _faults() == ["the server presented no certificate"]
    assert certificates.described([]) == "no certificate"
