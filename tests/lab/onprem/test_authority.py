"""H3 as an operator does it: `pulumi up`, the HSM's signature, `pulumi up`; and what must not get through meanwhile."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lab import vault
from tests.deployment import UP, kubectl
from tests.lab.onprem.environment import ROOT, SIGNED, WAITING, Onprem
from tests.lab.outcomes import Outcomes, verify

pytestmark = pytest.mark.lab

ROWS = {"H1", "H2", "H4", "H6", "H7", "H9"}
"""Shown by probes; H3 and H5 by tests, H8 on the graph."""


def test_a_sealed_vault_is_told_before_anything_is_made(operator: Onprem) -> None:
    operator.seal()
    done = operator.up(check=False)
    operator.unseal()
    assert done.returncode != 0
    assert "meshgate:authority.vault.address: Vault at https://10.7.0.2:8200 is sealed" in done.stdout + done.stderr
    assert made(operator) == []


def test_a_vault_that_does_not_answer_is_told_before_anything_is_made(operator: Onprem) -> None:
    operator.stop_vault()
    done = operator.up(check=False)
    operator.start_vault()
    assert done.returncode != 0
    assert "Vault at https://10.7.0.2:8200 does not answer" in done.stdout + done.stderr
    assert made(operator) == []


def test_a_vault_sealed_in_the_middle_of_up_is_told(operator: Onprem) -> None:
    with sealed_after_the_mount(operator):
        done = operator.up(check=False)
    assert done.returncode != 0
    assert "Vault is sealed" in done.stdout + done.stderr
    operator.unseal()


def test_the_first_up_makes_the_request_and_no_mesh(operator: Onprem) -> None:
    operator.up()
    assert operator.status() == WAITING
    assert operator.statuses() == {"2026": "waiting"}
    assert operator.stack.outputs()["withheld"] == ["mesh", "egress", "teams", "ingress"]
    assert operator.stack.outputs()["authority_root_certificate"] == ""

    # The document's Secret holds the same request as the output does.
    secret = json.loads(kubectl(operator.lab, "get", "secret", "istio-ca-cert-csr", "-n", "istio-system", "-o", "json"))
    assert {name: b64decode(text).decode() for name, text in secret["data"].items()} == {
        "2026.pem": operator.request("2026")
    }
    request = x509.load_pem_x509_csr(operator.request("2026").encode())
    assert request.is_signature_valid
    assert common_name(request.subject) == "onprem mesh 2026"

    assert not operator.exists("deployments", "-n", "istio-system")
    assert not operator.exists("namespace", "istioinaction", "istio-ingress", "istio-egress", "team-x")
    assert not operator.exists("secret", "cacerts", "-n", "istio-system")


def of_another_key(operator: Onprem) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.load_pem_x509_csr(operator.request("2026").encode()).subject
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    chain = operator.sign(request.public_bytes(Encoding.PEM).decode(), ROOT)
    return chain, "is for another key than that of '2026'"


def expired(operator: Onprem) -> tuple[str, str]:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    return by_another_root(operator, ends=yesterday), f"O=meshgate expired on {yesterday:%Y-%m-%d}"


def with_the_root_of_another(operator: Onprem) -> tuple[str, str]:
    intermediate, _ = pem_blocks(operator.signed("2026", ROOT))
    _, stranger = pem_blocks(by_another_root(operator, ends=datetime.now(UTC) + timedelta(days=300)))
    return intermediate + stranger, "is not signed by the next"


@pytest.mark.parametrize("wrong", [of_another_key, expired, with_the_root_of_another])
def test_a_wrong_chain_is_refused_with_the_reason(operator: Onprem, wrong: Callable[[Onprem], tuple[str, str]]) -> None:
    chain, reason = wrong(operator)
    before = made(operator)
    operator.set_chain("2026", chain)
    # With its preview, as operators run it: it finds even what only the request in the state tells.
    done = operator.stack.pulumi("up", "--yes", check=False)
    operator.set_chain("2026", None)
    told = done.stdout + done.stderr
    assert done.returncode != 0
    assert "meshgate:authority.generations[0].chain: " in told
    assert reason in told
    assert "Traceback" not in told
    assert made(operator) == before
    assert operator.statuses() == {"2026": "waiting"}
    assert not operator.exists("secret", "cacerts", "-n", "istio-system")


def test_signed_by_the_hsm_the_second_up_makes_the_mesh(operator: Onprem) -> None:
    request = operator.request("2026")
    operator.provision()
    operator.set_chain("2026", operator.signed("2026", ROOT))
    operator.up()
    operator.configure_balancer()
    assert operator.status() == SIGNED
    assert operator.statuses() == {"2026": "active"}
    assert operator.request("2026") == request
    outputs = operator.stack.outputs()
    assert "withheld" not in outputs
    assert outputs["authority_root_certificate"] == operator.root(ROOT)
    assert outputs["mesh_revision"] == "asm-183-2"
    assert operator.stack.changes(*UP, "--expect-no-changes").keys() <= {"same", "read"}


@pytest.fixture(scope="module")
def outcomes(onprem: Onprem) -> Outcomes:
    return verify(onprem.stack)


def test_every_probe_succeeds(outcomes: Outcomes) -> None:
    assert outcomes.failed() == []
    assert outcomes.exit_code == 0
    assert outcomes.rows() >= ROWS


def test_probes_say_where_it_was_decided(outcomes: Outcomes) -> None:
    assert [name for name, probe in outcomes.probes.items() if probe["ok"] and not probe["evidence"]] == []


def made(operator: Onprem) -> list[tuple[str, Any]]:
    """URN and inputs of what the stack has made; without what only holds it together, and what is only read."""
    return [
        (resource["urn"], resource["inputs"])
        for resource in operator.stack.resources()
        if resource["custom"] and not resource["type"].startswith("pulumi:") and not resource.get("external")
    ]


@contextmanager
def sealed_after_the_mount(operator: Onprem) -> Iterator[None]:
    """Seal Vault as soon as its audit log has the mount of the secret: the preflight is over, and most is to come."""
    log = vault.audit_log(operator.lab)
    start = log.stat().st_size
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            with log.open("rb") as file:
                file.seek(start)
                entries = [json.loads(line) for line in file if line.endswith(b"\n")]
            if any(
                (entry["type"], entry["request"]["operation"], entry["request"]["path"])
                == ("response", "update", "sys/mounts/asm-c1")
                for entry in entries
            ):
                return operator.seal()
        return None

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def by_another_root(operator: Onprem, *, ends: datetime) -> str:
    """A chain of the generation's own key by a root that no HSM has, which ends with it."""
    request = x509.load_pem_x509_csr(operator.request("2026").encode())
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])

    def certificate(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, path_length: int) -> str:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        signed = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(ends - timedelta(days=400))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return signed.public_bytes(Encoding.PEM).decode()

    requested = request.public_key()
    assert isinstance(requested, ec.EllipticCurvePublicKey)
    return certificate(request.subject, requested, 0) + certificate(name, key.public_key(), 1)


def pem_blocks(chain: str) -> list[str]:
    """A chain's certificates, each as PEM."""
    certificates = x509.load_pem_x509_certificates(chain.encode())
    return [certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates]


def common_name(name: x509.Name) -> str:
    """The common name of a subject or an issuer."""
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
