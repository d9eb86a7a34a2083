"""The probes of the mesh CA: its root in a token, what workloads hold, what the stack hands on; each promise broken."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from lightkube.models.core_v1 import Container, PodCondition, PodSpec, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import AttributeSensitive, KeyUnextractable, PinIncorrect

from settings import Settings, load
from settings.verify import HsmAccess
from tests.unit import mesh_ca
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context
from verify import authority, authority_token, authority_workloads, scenarios
from verify.certificates import Issued, common_name
from verify.errors import VerifyError
from verify.probe import Outcome
from verify.shell import Completed
from verify.workload import LABELS

CHAIN = mesh_ca.chain("2026")
IDENTITY = "spiffe://cluster.local/ns/{namespace}/sa/{account}"


@pytest.fixture
def settings(dev_config: dict[str, Any]) -> Settings:
    dev_config["authority"] = {"kind": "hsm", "generations": [{"name": "2026", "chain": CHAIN}]}
    return load(dev_config)


# The token


class FakeKey(dict[Attribute, Any]):
    """The root's private key as a token shows it."""

    def __init__(self, signer: ec.EllipticCurvePrivateKey, broken: str) -> None:
        super().__init__(dict(authority_token.ATTRIBUTES))
        self.update({Attribute.KEY_TYPE: KeyType.EC, Attribute.ID: b"1", Attribute.LABEL: "root"})
        if broken == "imported key":
            self[Attribute.LOCAL] = self[Attribute.NEVER_EXTRACTABLE] = False
        if broken == "key can be read":
            self[Attribute.VALUE] = b"secret"
        self._signer = ec.generate_private_key(ec.SECP256R1()) if broken == "another key" else signer

    def __missing__(self, attribute: Attribute) -> Any:
        raise AttributeSensitive

    def sign(self, digest: bytes, mechanism: Any) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

        r, s = decode_dss_signature(self._signer.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
        return r.to_bytes(32) + s.to_bytes(32)


class FakeWrappingKey:
    def __init__(self, broken: str) -> None:
        self.broken = broken

    def wrap_key(self, key: Any) -> bytes:
        if self.broken == "key can be wrapped":
            return b"wrapped"
        raise KeyUnextractable


class FakeSession:
    """A token with the root's key and certificate."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken

    def get_objects(self, wanted: dict[Attribute, Any]) -> Iterator[Any]:
        if wanted[Attribute.CLASS] is ObjectClass.CERTIFICATE:
            name = "another root" if self.broken == "certificate not imported" else "root"
            root = x509.load_pem_x509_certificate(mesh_ca.root_certificate(name).encode())
            yield {Attribute.VALUE: root.public_bytes(Encoding.DER), Attribute.ID: b"1"}
        elif wanted[Attribute.ID] == b"1" and self.broken != "no key":
            yield FakeKey(mesh_ca._key("root"), self.broken)

    def generate_key(self, kind: KeyType, length: int, store: bool) -> FakeWrappingKey:
        assert (kind, store) == (KeyType.AES, False)
        return FakeWrappingKey(self.broken)


def _access(pin_file: str) -> HsmAccess:
    return HsmAccess.model_validate({"module": "m.so", "tokenLabel": "meshgate", "pinFile": pin_file})


def _token_outcomes(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> list[Outcome | VerifyError]:
    @contextmanager
    def session(access: HsmAccess) -> Iterator[FakeSession]:
        yield FakeSession(broken)

    monkeypatch.setattr(authority_token, "_session", session)
    access = _access("pin")
    looking = settings.model_copy(update={"verify": settings.verify.model_copy(update={"hsm": access})})
    outcomes: list[Outcome | VerifyError] = []
    for probe in authority_token.probes(looking):
        try:
            outcomes.append(probe.attempt(context(tmp_path, looking)))
        except VerifyError as error:
            outcomes.append(error)
    return outcomes


SIGNS, STAYS, VERIFIES = range(3)


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        ("", set(), ""),
        ("another key", {SIGNS}, "signed with another key"),
        ("key can be read", {STAYS}, "C_GetAttributeValue(CKA_VALUE): given"),
        ("key can be wrapped", {STAYS}, "C_WrapKey: given"),
        ("imported key", {STAYS}, "'CKA_LOCAL': False"),
        ("no key", {SIGNS, STAYS}, "no private key with the id"),
        ("certificate not imported", {SIGNS, STAYS, VERIFIES}, "token"),
    ],
)
def test_each_probe_of_the_token_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, short: set[int], why: str
) -> None:
    outcomes = _token_outcomes(settings, tmp_path, monkeypatch, broken)
    assert {index for index, one in enumerate(outcomes) if isinstance(one, VerifyError) or not one.ok} == short
    for index in short:
        one = outcomes[index]
        assert why in (str(one) if isinstance(one, VerifyError) else one.observed)
    for one in outcomes:
        if isinstance(one, Outcome) and one.ok:
            assert "PKCS#11" in one.evidence or "openssl verify: certificate: OK" in one.evidence


def test_a_chain_of_another_root_does_not_verify(
    dev_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev_config["authority"] = {
        "kind": "hsm",
        "generations": [{"name": "2026", "chain": mesh_ca.chain("2026", root="foreign")}],
    }
    outcome = _token_outcomes(load(dev_config), tmp_path, monkeypatch, "")[VERIFIES]
    assert isinstance(outcome, Outcome)
    assert outcome.ok is False
    assert "the root foreign (" in outcome.observed
    assert "OK" not in outcome.evidence


def test_without_access_to_the_token_it_says_so(settings: Settings, tmp_path: Path) -> None:
    outcomes = [probe.attempt(context(tmp_path, settings)) for probe in authority_token.probes(settings)]
    assert outcomes == [authority_token.NOT_CONFIGURED] * 3
    assert authority_token.NOT_CONFIGURED.ok is None


def test_a_pin_is_this_users_alone_and_a_wrong_one_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin, tried = tmp_path / "pin", []

    class Library:
        def get_token(self, token_label: str) -> Any:
            return self

        def open(self, user_pin: str) -> Any:
            tried.append(user_pin)
            raise PinIncorrect

    monkeypatch.setattr(pkcs11, "lib", lambda module: Library())
    access = _access(str(pin))

    def look() -> None:
        with authority_token._session(access):
            pass

    with pytest.raises(VerifyError, match=r"cannot read .*No such file"):
        look()
    pin.write_text("1234\n")
    pin.chmod(0o644)
    with pytest.raises(VerifyError, match="others can read"):
        look()
    pin.chmod(0o600)
    for _ in range(3):
        with pytest.raises(VerifyError, match="token 'meshgate' refuses the PIN"):
            look()
    assert tried == ["1234"]


# Workloads


def _leaf(identity: str, signer: str = "2026", valid: timedelta = timedelta(days=1)) -> str:
    """A workload's certificate, PEM."""
    issuer = Issued(x509.load_pem_x509_certificate(mesh_ca.certificate(signer).encode()), mesh_ca._key(signer))
    start = issuer.certificate.not_valid_before_utc
    builder = (
        x509.CertificateBuilder(issuer.certificate.subject, common_name("leaf"), mesh_ca._key("leaf").public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1) + valid)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), critical=True)
    )
    return builder.sign(issuer.key, SHA256()).public_bytes(Encoding.PEM).decode()


class Mesh(Cluster):
    """Pods whose proxies hold what the mesh CA gave them. `broken` names what is wrong with it."""

    def __init__(self, broken: str = "") -> None:
        super().__init__()
        self.broken = broken

    def running(self, namespace: str, labels: dict[str, str]) -> list[Pod]:
        return [] if self.broken == "no gateway" else [Pod(spec=PodSpec(containers=[], serviceAccountName="gw"))]

    def pods(self, namespace: str, labels: dict[str, str]) -> list[str]:
        return ["istiod-1-31-1-abc" if labels == {"app": "istiod"} else "pod"]

    def log(self, namespace: str, pod: str, container: str, since: int) -> list[str]:
        assert (namespace, pod, container) == ("istio-system", "istiod-1-31-1-abc", "discovery")
        serial = x509.load_pem_x509_certificate(mesh_ca.certificate("2026").encode()).serial_number
        lines = ["info\tx509 cert - SN: 12", f'info\tx509 cert - Issuer: "CN=root", Subject: "CN=2026", SN: {serial:x}']
        return [] if self.broken == "log rotated" else lines

    def everywhere(self, kind: type[Any], labels: Mapping[str, str]) -> list[Any]:
        if kind is not Pod or labels:
            return []
        ready = PodStatus(conditions=[PodCondition(type="Ready", status="True")])
        late = PodStatus(conditions=[PodCondition(type="Ready", status="False")])

        def pod(name: str, status: PodStatus = ready, **metadata: Any) -> Pod:
            proxy = Container(name="other" if name == "plain" else "istio-proxy")
            spec = PodSpec(containers=[Container(name="app")], initContainers=[proxy])
            return Pod(metadata=ObjectMeta(name=name, namespace="team-x", **metadata), spec=spec, status=status)

        left = [pod("late", late), pod("going", deletionTimestamp=datetime.now(UTC)), pod("probe", labels=LABELS)]
        left.append(pod("plain"))
        return left if self.broken == "no proxy" else [pod("a"), *left, pod("b")]

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        assert command[-1] == "config_dump?resource=dynamic_active_secrets"
        account = "caller" if namespace.startswith("meshgate-verify") else "gw"
        identity = IDENTITY.format(namespace=namespace, account=account)
        if self.broken == "another identity":
            identity += "-x"
        signer = "2025" if self.broken == "another generation" else "2026"
        valid = timedelta(days=-1) if self.broken == "expired" else timedelta(days=1)
        chain = _leaf(identity, signer, valid) + mesh_ca.certificate(signer)
        if self.broken == "signed by the root":
            chain = _leaf(identity, "root") + mesh_ca.root_certificate()
        if self.broken == "no intermediate":
            chain = _leaf(identity, signer)
        if self.broken == "foreign root":
            chain = _leaf(identity) + mesh_ca.certificate("2026", "foreign")
        trusted = mesh_ca.root_certificate("other" if self.broken == "another root trusted" else "root")
        secrets = [
            {"name": "default", "secret": {"tls_certificate": {"certificate_chain": _inline(chain)}}},
            {"name": "ROOTCA", "secret": {"validation_context": {"trusted_ca": _inline(trusted)}}},
        ]
        return Completed(0, json.dumps({"configs": secrets}), "")


def _inline(pem: str) -> dict[str, str]:
    return {"inline_bytes": base64.b64encode(pem.encode()).decode()}


def _contracts() -> dict[str, Any]:
    return {
        "authority": {
            "namespace": "istio-system",
            "root_certificate": mesh_ca.root_certificate(),
            "status": "signed",
            "generations": {
                "2025": {"status": "retired", "request": mesh_ca.request("2025")},
                "2026": {"status": "active", "request": mesh_ca.request("2026")},
            },
        },
        "mesh": {"trust_domain": "cluster.local", "namespace": "istio-system"},
        "egress": {"namespace": "istio-egress", "selector": {"istio": "egressgateway"}},
    }


def _workload_outcomes(settings: Settings, tmp_path: Path, broken: str) -> list[Outcome]:
    asked = context(tmp_path, settings, kube=Mesh(broken), contracts=_contracts())
    outcomes = []
    for probe in authority_workloads.probes(settings):
        asked.pods.start(probe.workloads)
        try:
            outcomes.append(probe.attempt(asked))
        except VerifyError as error:
            outcomes.append(Outcome(ok=False, observed=str(error)))
    return outcomes


def test_a_new_certificate_is_of_the_active_generation_a_gateways_may_be_older(
    settings: Settings, tmp_path: Path
) -> None:
    outcomes = _workload_outcomes(settings, tmp_path, "another generation")
    assert [outcome.ok for outcome in outcomes] == [False, True, True, True, True]
    assert "signed it, not the active generation" in outcomes[0].observed
    assert "issued by 2025" in outcomes[1].observed
    assert outcomes[4].observed == "2 proxies, certificates of 2025 (2)"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("another identity", "its identity is ['spiffe://"),
        ("expired", "is not valid now"),
        ("signed by the root", "the root itself signed it"),
        ("no intermediate", "sends no intermediate along"),
        ("foreign root", "does not end at a root of the mesh CA"),
        ("another root trusted", "it trusts other ("),
    ],
)
def test_what_a_workload_holds_can_be_wrong(settings: Settings, tmp_path: Path, broken: str, why: str) -> None:
    *some, everybody = _workload_outcomes(settings, tmp_path, broken)
    for outcome in [*some, *([everybody] if "foreign" in broken or "trusted" in broken else [])]:
        assert outcome.ok is False
        assert why in outcome.observed


def test_sidecar_and_gateways_hold_what_the_active_generation_signed(settings: Settings, tmp_path: Path) -> None:
    outcomes = _workload_outcomes(settings, tmp_path, "")
    assert [outcome.ok for outcome in outcomes] == [True] * 5
    for outcome, who in zip(
        outcomes[:4], ("sidecar of caller", "istio-egress/sa/gw", "istio-ingress/sa/gw", ""), strict=True
    ):
        assert who in outcome.evidence
        assert "certificate: OK" in outcome.evidence


def test_istiods_own_word_is_shown_as_long_as_its_log_has_it(settings: Settings, tmp_path: Path) -> None:
    said = 'log of istiod-1-31-1-abc: info x509 cert - Issuer: "CN=root", Subject: "CN=2026", SN: '
    assert said in _workload_outcomes(settings, tmp_path, "")[0].evidence
    later = _workload_outcomes(settings, tmp_path, "log rotated")[0]
    assert (later.ok, "log of" in later.evidence) == (True, False)


def test_without_a_gateway_nothing_is_proven(settings: Settings, tmp_path: Path) -> None:
    outcomes = _workload_outcomes(settings, tmp_path, "no gateway")
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, True]


def test_a_managed_mesh_has_another_ca(gke: dict[str, Any]) -> None:
    gke["layers"].remove("authority")
    del gke["authority"]
    gke["mesh"] = {"kind": "managed"}
    gke["network"]["firewall"] = {**gke["network"].get("firewall", {}), "inClusterIstiod": False}
    rows = {probe.row for probe in scenarios.probes(load(gke)).values()}
    assert not rows & {"H1", "H2", "H4", "H6", "H9"}


def test_where_nobody_has_a_proxy_nothing_is_proven(settings: Settings, tmp_path: Path) -> None:
    outcome = _workload_outcomes(settings, tmp_path, "no proxy")[-1]
    assert (outcome.ok, outcome.observed.endswith("no pod has a proxy")) == (False, True)


# Outputs


def test_no_key_is_handed_on(settings: Settings, tmp_path: Path) -> None:
    probe = authority.probes(settings)[-1]
    contracts = _contracts()
    good = probe.attempt(context(tmp_path, settings, contracts=contracts))
    assert (good.ok, good.observed) == (True, "1 CERTIFICATE, 2 CERTIFICATE REQUEST")
    contracts["authority"]["generations"]["2026"]["request"] += "-----BEGIN EC PRIVATE KEY-----"
    bad = probe.attempt(context(tmp_path, settings, contracts=contracts))
    assert (bad.ok, bad.observed.partition(": ")[2]) == (False, "a EC PRIVATE KEY is among them")


def test_a_self_signed_authority_has_its_workloads_and_no_hsm(dev_config: dict[str, Any]) -> None:
    dev_config["authority"] = {"kind": "self-signed"}
    probes = scenarios.probes(load(dev_config))
    assert {probe.row for probe in probes.values() if probe.scenario == "authority"} == {"H4", "H9"}
