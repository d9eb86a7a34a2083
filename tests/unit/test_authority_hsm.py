"""A mesh CA rooted in an HSM: its generations from request to retirement, and what istiod finds at each step."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pulumi
import pytest

from settings import SettingsError, load
from settings.authority import HsmAuthority
from tests.unit import mesh_ca
from tests.unit.program import UPSTREAM, Program, run

ENDED = timedelta(hours=-1)
ENDING = timedelta(hours=2)
"""Less than a fifth of the day that they are old, and this."""

KMS: dict[str, Any] = {
    "kind": "hsm-kms",
    "istiodImage": "gcr.io/gke-release/asm/pilot:1.8.3-asm.2-hsm",
    "pluginImage": "gcr.io/thalescpl-io-k8s-kms-plugin/hsm-plugin:asm-1.7-1",
    "vaultClientImage": "gcr.io/gke-release/asm/vaultclient:latest",
    "slotLabel": "asm",
    "kekId": "7651a4ea-eeb7-4c1f-927b-8c871c2127aa",
    "clientConfig": "Chrystoki2 = {\n}\n",
    "vault": {
        "address": "https://vault.example.com:8200",
        "ca": "/dev/null",
        "mount": "asm-c1",
        "serviceAccounts": ["istiod-asm-183-2"],
        "kubernetesHost": "https://10.5.0.2:6443",
    },
}


@pytest.fixture(autouse=True)
def live(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The roots that the mesh trusts; there is none, until a test puts some in."""
    roots: list[str] = []
    monkeypatch.setattr("components.authority.hsm.live_roots", lambda *_: "".join(roots))
    return roots


def generation(name: str, chain: str | None = None) -> dict[str, Any]:
    """A generation as the configuration has it."""
    return {"name": name} | ({"chain": chain} if chain else {})


def signed(name: str, **signature: Any) -> dict[str, Any]:
    """A generation with the chain of its request."""
    return generation(name, mesh_ca.chain(f"prod-authority-{name}-request", **signature))


def config(*generations: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The layer alone, on a cluster of another stack."""
    return {
        "name": "prod",
        "layers": ["authority"],
        "upstream": {"cluster": "base"},
        "authority": {"kind": "hsm", "generations": list(generations), **values},
    }


def program(*generations: dict[str, Any], protect: bool = True, **values: Any) -> Program:
    """What the layer registers."""
    settings = {**config(*generations, **values), "protect": protect}
    return run(settings, stack="prod", references={"base": UPSTREAM})


def problems(*generations: dict[str, Any], **values: Any) -> list[tuple[str, str]]:
    """What is wrong with the generations, by key."""
    with pytest.raises(SettingsError) as error:
        load(config(*generations, **values))
    return [(problem.key, problem.message) for problem in error.value.problems]


def statuses(*generations: dict[str, Any], **values: Any) -> dict[str, str]:
    """The generations' statuses, as the settings give them."""
    authority = load(config(*generations, **values)).authority
    assert isinstance(authority, HsmAuthority)
    return dict(authority.statuses)


# The generations


def test_statuses_on_the_way() -> None:
    """First signature, renewal, and taking the old one out."""
    assert statuses(generation("2026")) == {"2026": "waiting"}
    assert statuses(signed("2026")) == {"2026": "active"}
    assert statuses(signed("2026"), generation("2027")) == {"2026": "active", "2027": "waiting"}
    both = signed("2026"), signed("2027")
    assert statuses(*both) == {"2026": "active", "2027": "ready"}
    assert statuses(*both, active="2027") == {"2026": "retired", "2027": "active"}
    assert statuses(signed("2027"), active="2027") == {"2027": "active"}


@pytest.mark.parametrize(
    ("generations", "waiting"),
    [
        ([generation("2026")], True),
        ([generation("2026"), generation("2027")], True),
        ([signed("2026"), generation("2027")], False),
        ([signed("2026")], False),
    ],
)
def test_waiting_only_while_nothing_is_signed(generations: list[dict[str, Any]], waiting: bool) -> None:
    authority = load(config(*generations)).authority
    assert authority is not None
    assert authority.waiting is waiting


def test_generations_names() -> None:
    assert problems(generation("2026"), generation("2026")) == [
        ("authority.generations[1].name", "'2026' names two generations; names must differ")
    ]
    assert problems() == [("authority.generations", "is empty; it needs at least one entry")]
    assert problems({"name": 2026}) == [
        ("authority.generations[0].name", "is 2026; it must be text, in quotes where YAML reads something else")
    ]


def test_active_is_a_generation_that_can_sign() -> None:
    assert problems(generation("2026"), active="2027") == [
        ("authority.active", "'2027' is no generation (there are: 2026)")
    ]
    assert problems(signed("2026"), generation("2027"), active="2027") == [
        ("authority.active", "is '2027', which has no chain yet; one that has can sign: 2026")
    ]
    assert problems(generation("2026"), signed("2027")) == [
        ("authority.active", "is '2026' (the first), which has no chain yet; one that has can sign: 2027")
    ]


def test_chains_are_read_before_anything_is_made() -> None:
    """All of them, each with its own key; settings/chain.py has the reasons."""
    alone = mesh_ca.certificate("prod-authority-2027-request")
    assert problems(generation("2026", "chain.pem"), generation("2027", alone)) == [
        (
            "authority.generations[0].chain",
            "holds no certificates in PEM; it takes what `python -m authority sign` prints, as text",
        ),
        (
            "authority.generations[1].chain",
            "does not end with a root: CN=prod-authority-2027-request is signed by CN=root, "
            "whose certificate is missing",
        ),
    ]


def test_one_key_for_two_generations() -> None:
    assert problems(signed("2026"), generation("2027", mesh_ca.chain("prod-authority-2026-request", root="new"))) == [
        (
            "authority.generations[1].chain",
            "is for the same key as that of '2026'; each generation has a key of its own",
        )
    ]


@pytest.mark.parametrize(
    ("generations", "active"),
    [
        ([signed("2026", valid=ENDED)], None),
        # Never was a CA: it is the one after it that waits.
        ([generation("2025"), signed("2026", valid=ENDED)], "2026"),
        ([signed("2026"), signed("2027", valid=ENDED)], None),
    ],
)
def test_expired_chain_is_refused(generations: list[dict[str, Any]], active: str | None) -> None:
    ((key, message),) = problems(*generations, active=active)
    assert key == f"authority.generations[{len(generations) - 1}].chain"
    assert " expired on 20" in message
    assert message.endswith("; add a generation after it, have its request signed and make that one active")


@pytest.mark.parametrize(
    ("generations", "active", "key", "advice"),
    [
        # Otherwise the request that would replace it could not be made.
        ([signed("2026", valid=ENDED), generation("2027")], None, "generations[0]", "make that one active"),
        ([signed("2026", valid=ENDED), signed("2027")], "2027", "generations[0]", "take the generation out"),
        ([signed("2026", valid=ENDING)], None, "generations[0]", "make that one active"),
        ([signed("2026"), signed("2027", valid=ENDING)], None, "generations[1]", "make that one active"),
    ],
)
def test_what_ends_is_said_aloud(
    generations: list[dict[str, Any]], active: str | None, key: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message: said.append(message))
    program(*generations, active=active)
    (warning,) = said
    assert warning.startswith(f"meshgate:authority.{key}: CN=prod-authority-")
    assert warning.endswith(advice)


def test_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda message: said.append(message))
    program(signed("2026"), signed("2027", valid=ENDING), signed("2028"), active="2028")
    assert said == []


# What is made


def test_first_up_makes_a_request_and_no_ca() -> None:
    found = program(generation("2026"))
    assert found.one("prod-authority-2026-key").inputs == {"algorithm": "ECDSA", "ecdsaCurve": "P256"}
    request = found.one("prod-authority-2026-request")
    assert request.inputs == {
        "privateKeyPem": "<key prod-authority-2026-key>",
        "subject": {"commonName": "prod mesh 2026", "organization": "meshgate"},
    }
    requests = found.one("prod-authority-requests")
    assert requests.inputs["metadata"] == {"name": "istio-ca-cert-csr", "namespace": "istio-system"}
    assert requests.inputs["stringData"].keys() == {"2026.pem"}
    assert [one.name for one in found.resources if "cacerts" in str(one.inputs)] == []


def test_first_up_exports_the_request() -> None:
    found = program(generation("2026"))
    outputs = {name.removeprefix("authority_"): value for name, value in found.outputs.items()}
    assert outputs["namespace"] == "istio-system"
    assert outputs["root_certificate"] == ""
    assert outputs["status"] == "waiting for the signed chain"
    assert outputs["generations"].keys() == {"2026"}
    assert outputs["generations"]["2026"]["status"] == "waiting"
    assert outputs["generations"]["2026"]["request"].startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    assert (
        outputs["generations"]["2026"]["request"]
        == (found.one("prod-authority-requests").inputs["stringData"]["2026.pem"])
    )
    assert found.secret_outputs == set()


def test_subjects() -> None:
    found = program(generation("2026"), commonName="Example mesh", organization="Example")
    assert found.one("prod-authority-2026-request").inputs["subject"] == {
        "commonName": "Example mesh 2026",
        "organization": "Example",
    }


def test_second_up_plugs_the_chain_in() -> None:
    found = program(signed("2026"), namespace="istio-control")
    secret = found.one("prod-authority-cacerts")
    certificate = mesh_ca.certificate("prod-authority-2026-request")
    assert secret.inputs["metadata"] == {"name": "cacerts", "namespace": "istio-control"}
    assert secret.inputs["stringData"] == {
        "ca-cert.pem": certificate,
        "ca-key.pem": "<key prod-authority-2026-key>",
        "cert-chain.pem": certificate + mesh_ca.root_certificate(),
        "root-cert.pem": mesh_ca.root_certificate(),
    }
    assert secret.secrets == {"stringData"}
    assert found.outputs["authority_status"] == "signed"
    assert found.outputs["authority_root_certificate"] == mesh_ca.root_certificate()
    assert found.outputs["authority_generations"]["2026"]["status"] == "active"
    assert found.secret_outputs == set()


def test_renewal_does_not_touch_the_running_ca() -> None:
    """A generation that waits, or is ready, under the same root changes nothing of what istiod has."""
    before = program(signed("2026")).one("prod-authority-cacerts").inputs
    assert program(signed("2026"), generation("2027")).one("prod-authority-cacerts").inputs == before
    assert program(signed("2026"), signed("2027")).one("prod-authority-cacerts").inputs == before


def test_rotation_of_the_root_in_three_steps() -> None:
    """Both roots are trusted before the new one signs, and until nothing is left that the old one signed."""
    old, new = mesh_ca.root_certificate("old"), mesh_ca.root_certificate("new")
    generations = signed("2026", root="old"), signed("2027", root="new")
    first, second, third = (
        mesh_ca.certificate("prod-authority-2026-request", "old"),
        *2 * (mesh_ca.certificate("prod-authority-2027-request", "new"),),
    )
    steps = [
        (program(*generations), first, "2026", old, old + new),
        (program(*generations, active="2027"), second, "2027", new, new + old),
        (program(generations[1], active="2027"), third, "2027", new, new),
    ]
    for found, certificate, signer, root, trusted in steps:
        assert found.one("prod-authority-cacerts").inputs["stringData"] == {
            "ca-cert.pem": certificate,
            "ca-key.pem": f"<key prod-authority-{signer}-key>",
            "cert-chain.pem": certificate + root,
            "root-cert.pem": trusted,
        }
        assert found.outputs["authority_root_certificate"] == trusted


ROOTS = {name: mesh_ca.root_certificate(name) for name in ("old", "new", "newest")}


@pytest.mark.parametrize(
    ("trusted", "generations", "active"),
    [
        (["old"], ["old"], "2020"),
        (["old"], ["old", "new"], "2020"),
        (["old", "new"], ["old", "new"], "2021"),
        (["new", "old"], ["old", "new"], "2020"),
        (["new", "old"], ["new"], "2020"),
        (["old"], ["old", "old"], "2021"),
    ],
)
def test_steps_that_a_running_mesh_follows(
    trusted: list[str], generations: list[str], active: str, live: list[str]
) -> None:
    live.extend(ROOTS[name] for name in trusted)
    listed = [signed(str(2020 + index), root=root) for index, root in enumerate(generations)]
    found = program(*listed, active=active).one("prod-authority-cacerts")
    assert found.inputs["stringData"]["root-cert.pem"].startswith(ROOTS[generations[int(active) - 2020]])


@pytest.mark.parametrize(
    ("trusted", "generations", "active", "reason"),
    [
        # Trusting both was left out.
        (
            ["old"],
            ["new"],
            "2020",
            "the mesh does not trust the root of '2020' yet, CN=new: first run `pulumi up` with",
        ),
        (["old"], ["old", "new"], "2021", "the mesh does not trust the root of '2021' yet, CN=new: first run"),
        (["old", "new"], ["new", "newest"], "2020", "add a root and take another out, which istiod refuses"),
    ],
)
def test_steps_that_would_cut_a_running_mesh_in_two(
    trusted: list[str], generations: list[str], active: str, reason: str, live: list[str]
) -> None:
    live.extend(ROOTS[name] for name in trusted)
    listed = [signed(str(2020 + index), root=root) for index, root in enumerate(generations)]
    with pytest.raises(pulumi.RunError) as error:
        program(*listed, active=active)
    assert str(error.value).startswith(f"meshgate:authority.generations: {reason}")


def test_foreign_chain_is_refused() -> None:
    """Before the Secret is made: a running istiod keeps what it has."""
    foreign = generation("2026", mesh_ca.chain("somebody-elses-request"))
    with pytest.raises(pulumi.RunError) as error:
        program(foreign)
    assert str(error.value) == (
        "meshgate:authority.generations[0].chain: is for another key than that of '2026': sign the request that "
        "`pulumi stack output authority_generations` has for '2026'"
    )


def test_foreign_chain_that_only_adds_a_root_is_refused() -> None:
    foreign = generation("2027", mesh_ca.chain("somebody-elses-request", root="somebody"))
    with pytest.raises(pulumi.RunError, match=r"^meshgate:authority\.generations\[1\]\.chain: is for another key"):
        program(signed("2026"), foreign)


def test_chain_of_another_generation_is_told() -> None:
    mixed_up = [generation("2026", mesh_ca.chain("prod-authority-2027-request")), generation("2027")]
    with pytest.raises(pulumi.RunError) as error:
        program(*mixed_up)
    assert str(error.value) == (
        "meshgate:authority.generations[0].chain: is that of the generation '2027', not of '2026'; "
        "put each where it belongs"
    )


def test_protected_until_retired() -> None:
    """Losing a key costs a ceremony at the HSM, or the mesh; a retired one is what is taken out next."""
    found = program(signed("2026"), signed("2027"), signed("2028"), generation("2029"), active="2027")
    assert {one.name for one in found.resources if one.protect} == {
        "prod-authority-namespace",
        "prod-authority-cacerts",
        *(f"prod-authority-{name}-{part}" for name in ("2027", "2028", "2029") for part in ("key", "request")),
    }
    assert [one.name for one in program(signed("2026"), protect=False).resources if one.protect] == []


def test_key_goes_into_the_cluster_only_to_istiod() -> None:
    found = program(signed("2026"), signed("2027"))
    for name, users in (("2026", {"request", "cacerts"}), ("2027", {"request"})):
        key = f"<key prod-authority-{name}-key>"
        assert {one.name.rsplit("-", 1)[1] for one in found.resources if key in str(one.inputs)} == users


# The vendor's istiod


def kms(**values: Any) -> dict[str, Any]:
    """The layer with the mesh, which it needs beside itself, on a cluster of another stack."""
    return {
        "name": "prod",
        "layers": ["authority", "mesh"],
        "upstream": {"cluster": "base"},
        "authority": {**KMS, **values},
        "mesh": {"revision": "asm-183-2"},
    }


def kms_program(monkeypatch: pytest.MonkeyPatch, **values: Any) -> Program:
    """What it registers, without a Vault to ask."""
    monkeypatch.setattr("components.authority.preflight.preflight", lambda _: [])
    return run(kms(**values), stack="prod", references={"base": UPSTREAM})


def test_vendors_istiod_waits_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it mounts is there before it; its request is its own."""
    found = kms_program(monkeypatch, namespace="istio-control")
    config_map = found.one("prod-authority-client")
    assert config_map.inputs["metadata"] == {"name": "hsm-client-config", "namespace": "istio-control"}
    assert config_map.inputs["data"] == {"Chrystoki.conf": "Chrystoki2 = {\n}\n"}
    assert "istio-ca-cert" not in [one.inputs.get("metadata", {}).get("name") for one in found.resources]
    assert [one.name for one in found.resources if one.type.startswith("tls:")] == []
    assert found.outputs["authority_status"] == "waiting for the signed chain"
    assert found.outputs["authority_root_certificate"] == ""
    assert found.outputs["authority_generations"] == {}
    assert found.one("prod-authority-vault-role").inputs["boundServiceAccountNamespaces"] == ["istio-control"]


def test_vendors_istiod_comes_after_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = kms_program(monkeypatch, chain=mesh_ca.chain("istiod"))
    (istiod,) = [one for one in found.of(":Release") if one.inputs["chart"].endswith("istiod")]
    before = {f"prod-authority-{name}" for name in ("client", "chain", "vault-role", "vault-config", "vault-ca")}
    assert before <= istiod.dependencies


def test_vendors_istiod_gets_its_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = mesh_ca.chain("istiod")
    found = kms_program(monkeypatch, chain=chain)
    secret = found.one("prod-authority-chain")
    assert secret.inputs["metadata"] == {"name": "istio-ca-cert", "namespace": "istio-system"}
    assert secret.inputs["stringData"] == {"cert-chain.pem": chain}
    assert {one.name for one in found.resources if one.protect} == {
        "prod-authority-namespace",
        "prod-authority-chain",
        "prod-authority-vault-mount",
    }
    assert found.outputs["authority_status"] == "signed"
    assert found.outputs["authority_root_certificate"] == mesh_ca.root_certificate()


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("chain.pem", "holds no certificates in PEM; it takes what `python -m authority sign` prints, as text"),
        (mesh_ca.chain("istiod", valid=ENDED), "CN=istiod expired on 20"),
        (mesh_ca.root_certificate(), "has the root alone, CN=root; the signed intermediate comes before it"),
    ],
)
def test_vendors_chain_is_read_before_anything_is_made(chain: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(kms(chain=chain))
    (problem,) = error.value.problems
    assert problem.key == "authority.chain"
    assert problem.message.startswith(message)


def test_vault_settings_are_checked() -> None:
    vault = {**KMS["vault"], "address": "http://vault:8200", "mount": "asm/c1", "tokenTtlHours": 769}
    with pytest.raises(SettingsError) as error:
        load(kms(vault=vault))
    assert {problem.key: problem.message for problem in error.value.problems} == {
        "authority.vault.address": "is 'http://vault:8200'; it must be https:// with a host and, where it is not 443, "
        "a port, and no path",
        "authority.vault.mount": "is 'asm/c1'; it must be lower-case letters, digits, '-' and '_'",
        "authority.vault.tokenTtlHours": "is 769; it must be less than or equal to 768",
    }
    twice = {**KMS["vault"], "serviceAccounts": ["istiod-asm-183-2", "istiod-asm-183-2"]}
    with pytest.raises(SettingsError, match=r"vault\.serviceAccounts\[1\]: 'istiod-asm-183-2' is there twice"):
        load(kms(vault=twice))
