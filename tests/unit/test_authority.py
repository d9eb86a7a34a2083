"""The mesh CA: what the certificates may do, how long they live, and what istiod finds in `cacerts`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.program import UPSTREAM, Program, run

CA = ("root-key", "root", "intermediate-key", "intermediate-request", "intermediate")


def authority(**settings: Any) -> Program:
    """The layer alone, on a cluster of another stack."""
    config = {
        "name": "prod",
        "layers": ["authority"],
        "upstream": {"cluster": "base"},
        "authority": {"kind": "self-signed"},
    }
    return run({**config, **settings}, stack="prod", references={"base": UPSTREAM})


@pytest.fixture(scope="module")
def program() -> Program:
    """One run for all tests that only look at it."""
    return authority()


@pytest.mark.parametrize("ca", ["prod-authority-ca", "dev-ingress-webapp-ca", "dev-ingress-catalog-ca"])
def test_root_signs_one_level_and_intermediate_only_leaves(program: Program, dev_program: Program, ca: str) -> None:
    found = program if ca.startswith("prod") else dev_program
    root = found.one(f"{ca}-root").inputs
    assert root["isCaCertificate"] is True
    assert root["maxPathLength"] == 1
    assert root["setSubjectKeyId"] is True
    assert root["allowedUses"] == ["cert_signing", "crl_signing"]
    assert root["privateKeyPem"] == f"<key {ca}-root-key>"
    intermediate = found.one(f"{ca}-intermediate").inputs
    assert intermediate["isCaCertificate"] is True
    assert intermediate["maxPathLength"] == 0
    assert intermediate["setSubjectKeyId"] is True
    assert intermediate["allowedUses"] == ["cert_signing", "crl_signing", "digital_signature"]
    assert intermediate["caCertPem"] == f"<certificate {ca}-root>"
    assert intermediate["caPrivateKeyPem"] == f"<key {ca}-root-key>"
    assert intermediate["certRequestPem"] == f"<request {ca}-intermediate-request>"
    request = found.one(f"{ca}-intermediate-request").inputs
    assert request["privateKeyPem"] == f"<key {ca}-intermediate-key>"


def test_keys(program: Program) -> None:
    assert program.one("prod-authority-ca-root-key").inputs == {"algorithm": "ECDSA", "ecdsaCurve": "P384"}
    assert program.one("prod-authority-ca-intermediate-key").inputs == {"algorithm": "ECDSA", "ecdsaCurve": "P256"}


def test_subjects(program: Program, dev_program: Program) -> None:
    subjects = {
        name: found.one(name).inputs["subject"]
        for found, name in (
            (program, "prod-authority-ca-root"),
            (program, "prod-authority-ca-intermediate-request"),
            (dev_program, "dev-ingress-catalog-ca-root"),
        )
    }
    assert subjects == {
        "prod-authority-ca-root": {"commonName": "prod mesh root", "organization": "meshgate"},
        "prod-authority-ca-intermediate-request": {"commonName": "prod mesh intermediate", "organization": "meshgate"},
        "dev-ingress-catalog-ca-root": {"commonName": "catalog root", "organization": "meshgate"},
    }


def test_lifetimes_follow_the_settings() -> None:
    lifetimes = {"rootValidityHours": 50000, "intermediateValidityHours": 9000, "earlyRenewalHours": 500}
    program = authority(authority={"kind": "self-signed", "organization": "Example", **lifetimes})
    for name, hours in (("prod-authority-ca-root", 50000), ("prod-authority-ca-intermediate", 9000)):
        inputs = program.one(name).inputs
        assert (inputs["validityPeriodHours"], inputs["earlyRenewalHours"]) == (hours, 500)
    assert program.one("prod-authority-ca-root").inputs["subject"] == {
        "commonName": "prod mesh root",
        "organization": "Example",
    }


def test_cacerts(program: Program) -> None:
    """The files that istiod reads; the chain goes from the intermediate to the root."""
    secret = program.one("prod-authority-cacerts")
    assert secret.inputs["metadata"] == {"name": "cacerts", "namespace": "istio-system"}
    assert secret.inputs["stringData"] == {
        "ca-cert.pem": "<certificate prod-authority-ca-intermediate>",
        "ca-key.pem": "<key prod-authority-ca-intermediate-key>",
        "cert-chain.pem": "<certificate prod-authority-ca-intermediate><certificate prod-authority-ca-root>",
        "root-cert.pem": "<certificate prod-authority-ca-root>",
    }
    assert secret.secrets == {"stringData"}
    assert "prod-authority-namespace" in secret.dependencies


def test_root_key_stays_with_the_root(program: Program) -> None:
    """It signs the intermediate and goes nowhere else, least of all into the cluster."""
    key = "<key prod-authority-ca-root-key>"
    users = {resource.name for resource in program.resources if key in str(resource.inputs)}
    assert users == {"prod-authority-ca-root", "prod-authority-ca-intermediate"}


def test_certificate_authorities_are_protected() -> None:
    program = authority()
    assert {resource.name for resource in program.resources if resource.protect} == {
        f"prod-authority-ca-{part}" for part in CA
    }


def test_dev_can_be_thrown_away(dev_program: Program) -> None:
    assert [resource.name for resource in dev_program.resources if resource.protect] == []


def test_ingress_authorities_are_protected_and_leaves_are_not(dev_config: dict[str, Any]) -> None:
    config = {
        "name": "prod",
        "layers": ["ingress"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "ingress": dev_config["ingress"],
    }
    program = run(config, references={"base": UPSTREAM})
    assert {resource.name for resource in program.resources if resource.protect} == {
        f"prod-ingress-{ca}-ca-{part}" for ca in ("webapp", "catalog") for part in CA
    }


def test_contract() -> None:
    program = authority(authority={"kind": "self-signed", "namespace": "istio-control"})
    assert program.one("prod-authority-namespace").inputs["metadata"] == {"name": "istio-control"}
    assert program.outputs == {
        "authority_contract": 2,
        "authority_namespace": "istio-control",
        "authority_root_certificate": "<certificate prod-authority-ca-root>",
        "authority_status": "signed",
        "authority_generations": {},
    }
    assert program.secret_outputs == set()
