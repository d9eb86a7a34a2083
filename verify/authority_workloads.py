"""Whose certificates workloads have: the mesh CA's active generation signed them, up to the root (H4; source: Anthos
Service Mesh on-premises with HSM and Vault)."""

from __future__ import annotations

import base64
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from lightkube.resources.core_v1 import Pod

from settings import Settings
from settings.mesh import IstiodMesh
from verify.certificates import common_name_of, described, fingerprint, issued_by
from verify.context import Context
from verify.envoy import CONTAINER as PROXY
from verify.envoy import EVER, Proxies, secrets
from verify.errors import VerifyError
from verify.exchange import EgressGateway, differs, judged
from verify.mesh import CALLER
from verify.pods import containers
from verify.probe import Outcome, Probe
from verify.shell import Local
from verify.workload import LABELS

SCENARIO = "authority"
ROW = "H4"

OWN, TRUSTED = "default", "ROOTCA"
"""Istio's names for what a proxy proves itself by, and for what it trusts."""

ISTIOD = "discovery"
"""istiod's container."""

WORKERS = 8
SHOWN = 5
"""How many proxies that fall short are told of."""


@dataclass(frozen=True)
class Held:
    """What a proxy holds."""

    chain: tuple[x509.Certificate, ...]
    """Its own certificate first, then what signed it, as far as it sends it along."""

    trusted: tuple[x509.Certificate, ...]

    @classmethod
    def of(cls, dump: dict[str, Any]) -> Held:
        """Read an Envoy's dump of its secrets."""
        held = {str(one.get("name")): one.get("secret", {}) for one in dump.get("configs", [])}
        own = held.get(OWN, {}).get("tls_certificate", {}).get("certificate_chain", {})
        trusted = held.get(TRUSTED, {}).get("validation_context", {}).get("trusted_ca", {})
        return cls(_certificates(own), _certificates(trusted))


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of a mesh whose CA is in a layer `authority`; a managed mesh has another."""
    if not isinstance(settings.mesh, IstiodMesh):
        return
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="a new sidecar's certificate: its pod's identity, signed by the active intermediate, which the mesh "
        "CA's root signed; it trusts that root",
        attempt=_sidecar,
        workloads=(CALLER,),
    )
    # One that runs for a while keeps a certificate of the generation before, until it renews it by itself.
    for name, attempt in _gateways(settings):
        yield Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"the certificate of {name}: the gateway's identity, signed by an intermediate of the mesh CA's "
            "root; it trusts that root",
            attempt=attempt,
        )
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="every proxy of the mesh trusts the roots of the mesh CA, all of them and no other, and has a "
        "certificate that goes back to one of them",
        attempt=_everybody,
    )


def _gateways(settings: Settings) -> Iterator[tuple[str, partial[Outcome]]]:
    """A gateway of each layer that has any."""
    if settings.egress:
        yield "the egress gateway", partial(_egress_gateway)
    for layer in (settings.ingress, settings.edge):
        if layer:
            name = min(layer.gateways)
            yield f"gateway {name}", partial(_gateway, layer.namespace, {"app": name})


def _sidecar(context: Context) -> Outcome:
    pod = context.pods.get(CALLER)
    identity = pod.spiffe_id(context.contracts["mesh"]["trust_domain"])
    key = signing_key(context.contracts["authority"]["generations"])
    held = _held(pod.proxies)
    outcome = _judged(context, f"sidecar of {pod.name}", held, identity, key)
    return replace(outcome, evidence="; ".join(filter(None, (outcome.evidence, _istiod_says(context, held[0])))))


def _istiod_says(context: Context, held: Held) -> str:
    """What an istiod wrote when it took up the intermediate that signed a certificate, while its log has it."""
    namespace = context.contracts["mesh"]["namespace"]
    for signer in held.chain[1:2]:
        for istiod in context.kube.pods(namespace, {"app": "istiod"}):
            for line in reversed(context.kube.log(namespace, istiod, ISTIOD, EVER)):
                if f"SN: {signer.serial_number:x}" in line:
                    return f"log of {istiod}: {' '.join(line.split())}"
    return ""


def _egress_gateway(context: Context) -> Outcome:
    gateway = EgressGateway(context)
    return _gateway(gateway.namespace, context.contracts["egress"]["selector"], context)


def _gateway(namespace: str, labels: dict[str, str], context: Context) -> Outcome:
    pods = context.kube.running(namespace, labels)
    if not pods:
        raise VerifyError(f"no pod of the gateway {labels} runs in {namespace}")
    trust_domain = context.contracts["mesh"]["trust_domain"]
    identity = f"spiffe://{trust_domain}/ns/{namespace}/sa/{_account(pods[0])}"
    return _judged(context, f"gateway {identity}", _held(context.gateway(namespace, labels)), identity, None)


def _everybody(context: Context) -> Outcome:
    """As a rotation of the root needs it between its steps; whose certificates there are is told."""
    roots = _roots(context)
    # Gateways and sidecars have no label in common that nobody else has.
    pods = [pod for pod in context.kube.everywhere(Pod, {}) if PROXY in containers(pod) and _stays(pod)]

    def seen(pod: Pod) -> tuple[str, list[str]]:
        """The issuer of its certificate, and what is wrong."""
        assert pod.metadata is not None
        namespace, name = str(pod.metadata.namespace), str(pod.metadata.name)
        try:
            held = Held.of(secrets(context.kube, namespace, name))
        except VerifyError as error:
            return "", [str(error)]
        issuer = common_name_of(held.chain[0].issuer) if held.chain else "nobody"
        return issuer, [f"{namespace}/{name}: {fault}" for fault in root_faults(held, roots)]

    with ThreadPoolExecutor(WORKERS) as side_by_side:
        all_seen = list(side_by_side.map(seen, pods))
    issuers = Counter(issuer for issuer, _ in all_seen)
    observed = f"{len(pods)} proxies, certificates of " + ", ".join(f"{who} ({n})" for who, n in issuers.items())
    faults = [fault for _, some in all_seen for fault in some] if pods else ["no pod has a proxy"]
    more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return judged(observed, [*faults[:SHOWN], *more], f"the proxies' own word: {observed}")


def _stays(pod: Pod) -> bool:
    """Whether its proxy can be asked: probe pods come and go."""
    assert pod.metadata is not None
    conditions = (pod.status and pod.status.conditions) or []
    ready = any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
    return ready and not pod.metadata.deletionTimestamp and not LABELS.items() <= (pod.metadata.labels or {}).items()


def _roots(context: Context) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(context.contracts["authority"]["root_certificate"].encode())


def _account(pod: Pod) -> str:
    return str(pod.spec and pod.spec.serviceAccountName)


def _held(proxies: Proxies) -> list[Held]:
    """What each of the proxies holds, at least one."""
    if not (held := [Held.of(dump) for dump in proxies.secrets()]):
        raise VerifyError(f"no proxy runs in {proxies.namespace} with the labels {proxies.labels}")
    return held


def _judged(context: Context, who: str, held: Sequence[Held], identity: str, key: bytes | None) -> Outcome:
    """Every one of the proxies."""
    roots = _roots(context)
    faults = [fault for one in held for fault in chain_faults(one, roots, identity, key)]
    return judged(described(held[0].chain), faults, f"{who}: {openssl(context, held[0].chain, roots)}")


def signing_key(generations: dict[str, Any]) -> bytes | None:
    """The key of the generation that signs, as DER; None where the CA has no generations, or makes its key itself."""
    for generation in generations.values():
        if generation["status"] == "active" and generation["request"]:
            return _key(x509.load_pem_x509_csr(generation["request"].encode()))
    return None


def chain_faults(held: Held, roots: Sequence[x509.Certificate], identity: str, key: bytes | None) -> list[str]:
    """What is wrong with what a proxy holds; `key` is the signer's, None where any will do."""
    if len(held.chain) < 2:
        return ["the proxy sends no intermediate along"]
    leaf, signer, *_ = held.chain
    now = datetime.now(UTC)
    faults = [
        *differs("its identity", _identities(leaf), [identity]),
        *(
            f"{fingerprint(one)} is not signed by what follows it"
            for one, issuer in zip(held.chain, held.chain[1:], strict=False)
            if not issued_by(one, issuer)
        ),
        *(
            f"{fingerprint(one)} is not valid now"
            for one in held.chain
            if not one.not_valid_before_utc <= now <= one.not_valid_after_utc
        ),
    ]
    if signer in roots:
        faults.append("the root itself signed it, not an intermediate")
    if key is not None and _key(signer) != key:
        faults.append(f"{fingerprint(signer)} signed it, not the active generation")
    return [*faults, *root_faults(held, roots)]


def root_faults(held: Held, roots: Sequence[x509.Certificate]) -> list[str]:
    """Whether a proxy's certificate goes back to one of the roots, and whether it trusts all of them and no other."""
    faults = []
    if not held.chain or not any(issued_by(held.chain[-1], root) for root in roots):
        faults.append("its chain does not end at a root of the mesh CA")
    if set(held.trusted) != set(roots):
        trusted = ", ".join(map(fingerprint, held.trusted)) or "nobody"
        faults.append(f"it trusts {trusted}, not the roots of the mesh CA")
    return faults


def openssl(context: Context, chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> str:
    """What openssl says of the chain, where there is one, and its links in words."""
    words = " <- ".join(map(fingerprint, chain))
    if not chain or not shutil.which("openssl"):
        return words
    leaf, *between = chain
    command = ["openssl", "verify", "-show_chain", "-no-CApath", "-no-CAstore"]
    command += ["-CAfile", str(context.file(_pem(roots)))]
    command += ["-untrusted", str(context.file(_pem(between)))] if between else []
    file = str(context.file(_pem([leaf])))
    done = Local("openssl").run([*command, file], timeout=10)
    said = " ".join((done.stdout + done.stderr).replace(file, "certificate").split())
    return f"openssl verify: {said}; {words}"


def _pem(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def _certificates(source: dict[str, Any]) -> tuple[x509.Certificate, ...]:
    pem = base64.b64decode(source.get("inline_bytes", ""))
    return tuple(x509.load_pem_x509_certificates(pem)) if pem else ()


def _identities(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _key(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
