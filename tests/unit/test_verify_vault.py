"""The probes of Vault: what their script does with a `curl` that answers as Vault does, and each promise broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lightkube.resources.core_v1 import Pod, ServiceAccount

from settings import Settings, load
from tests.unit import mesh_ca
from tests.unit.test_verify_pods import Cluster
from tests.unit.verify_fakes import context
from verify import vault
from verify.probe import Outcome, Probe
from verify.shell import Completed
from verify.vault_client import SCRIPT, AuditLog, Reply

CA = mesh_ca.root_certificate("vault")
SECRETS = {"clientcert": "CERT-VALUE", "clientkey": "KEY-VALUE", "servercert": "SERVER-VALUE", "PIN": "4711-0815"}
TOKEN, JWT = "hvs.CAESIJ-the-token", "eyJhbGciOi.J1c3RpdGlh.c2lnbmF0dXJl"

AUTH = {
    "client_token": TOKEN,
    "accessor": "the-accessor",
    "policies": ["asm-c1-hsm-policy", "default"],
    "metadata": {
        "role": "istiod",
        "service_account_name": "istiod-1-31-1",
        "service_account_namespace": "istio-system",
    },
    "lease_duration": 3600,
}

CURL = r"""
import json, pathlib, sys
home = pathlib.Path(__file__).parent
with (home / "argv").open("a") as file:
    file.write(" ".join(sys.argv) + "\n")
with (home / "stdin").open("a") as file:
    file.write(sys.stdin.read() + "--\n")
answers = json.loads((home / "answers").read_text())
code, status, body = answers[sys.argv[-1].partition("/v1/")[2]]
print(body)
print(f"\n{status:03} {'SSL certificate problem' if code else ''}", end="")
sys.exit(code)
"""


def _run(tmp_path: Path, answers: dict[str, tuple[int, int, Any]], *requests: str) -> subprocess.CompletedProcess[str]:
    """The probes' script, with a `curl` that gives these answers and keeps what it was told."""
    (tmp_path / "curl.py").write_text(CURL)
    (tmp_path / "curl").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/curl.py "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "jwt").write_text(JWT)
    encoded = {
        path: (code, status, json.dumps(body, separators=(",", ":"))) for path, (code, status, body) in answers.items()
    }
    (tmp_path / "answers").write_text(json.dumps(encoded))
    keys = " ".join(SECRETS)
    arguments = ["https://vault:8200", "/ca.pem", str(tmp_path / "jwt"), "istiod", "asm-c1/hsm", "agent-1", keys]
    return subprocess.run(
        ["sh", "-c", SCRIPT, "sh", *arguments, *requests],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


GOOD: dict[str, tuple[int, int, Any]] = {
    "auth/asm-c1/hsm/login": (0, 200, {"request_id": "r", "lease_duration": 0, "data": None, "auth": AUTH}),
    "asm-c1/data/hsm": (0, 200, {"data": {"data": SECRETS, "metadata": {"version": 1}}}),
    "sys/mounts": (0, 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}),
    "auth/token/revoke-self": (0, 204, None),
}


def test_the_script_tells_what_is_there_and_shows_no_secret(tmp_path: Path) -> None:
    done = _run(tmp_path, GOOD, "GET", "asm-c1/data/hsm", "agent-2", "GET", "sys/mounts", "agent-3")
    login, secret, mounts = (Reply.parse(line) for line in done.stdout.splitlines())
    assert (login.status, json.loads(login.said)) == (
        200,
        {"policies": ["asm-c1-hsm-policy", "default"], "seconds": 3600, "account": "istio-system/istiod-1-31-1"},
    )
    assert secret == Reply(0, 200, "clientcert clientkey servercert PIN")
    assert mounts == Reply(0, 403, "1 error occurred: * permission denied")
    arguments = (tmp_path / "argv").read_text()
    for value in (*SECRETS.values(), TOKEN, JWT, "the-accessor"):
        assert value not in done.stdout + done.stderr
        assert value not in arguments
    told = (tmp_path / "stdin").read_text().split("--\n")
    assert told[0] == f'data = "{{\\"role\\":\\"istiod\\",\\"jwt\\":\\"{JWT}\\"}}"\n'
    assert told[1] == f'header = "X-Vault-Token: {TOKEN}"\n'
    # The token is given back.
    assert arguments.splitlines()[-1].endswith("https://vault:8200/v1/auth/token/revoke-self")
    assert TOKEN in told[3]


def test_an_empty_value_is_missing(tmp_path: Path) -> None:
    answers = {**GOOD, "asm-c1/data/hsm": (0, 200, {"data": {"data": {**SECRETS, "PIN": ""}}})}
    done = _run(tmp_path, answers, "GET", "asm-c1/data/hsm", "agent-2")
    assert Reply.parse(done.stdout.splitlines()[1]).said == "clientcert clientkey servercert"


def test_what_is_no_question_carries_nothing_that_could_be_written(tmp_path: Path) -> None:
    answers = {**GOOD, "asm-c1/data/hsm": (0, 403, {"errors": ["permission denied"]})}
    done = _run(tmp_path, answers, "POST", "asm-c1/data/hsm", "agent-2")
    assert Reply.parse(done.stdout.splitlines()[1]) == Reply(0, 403, "permission denied")
    assert 'data = "{}"' in (tmp_path / "stdin").read_text().split("--\n")[1]


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ((0, 403, {"errors": ["namespace not authorized"]}), Reply(0, 403, "namespace not authorized")),
        ((60, 0, ""), Reply(60, 0, "SSL certificate problem")),
    ],
)
def test_without_a_login_nothing_more_is_asked(tmp_path: Path, answer: tuple[int, int, Any], reply: Reply) -> None:
    done = _run(tmp_path, {**GOOD, "auth/asm-c1/hsm/login": answer}, "GET", "sys/mounts", "agent-2")
    assert [Reply.parse(line) for line in done.stdout.splitlines()] == [reply]


class Vault(Cluster):
    """Pods that ask a Vault which keeps its promises. `broken` names what it does not."""

    def __init__(self, audit: Path, broken: str = "") -> None:
        super().__init__()
        self.audit = audit
        self.broken = broken

    def config_map(self, namespace: str, name: str) -> dict[str, str]:
        assert (namespace, name) == ("istio-system", "vault-tls-cert")
        return {"cert": mesh_ca.root_certificate("other") if self.broken == "another CA in the ConfigMap" else CA}

    def may(self, subject: Any, verb: str, resource: str, namespace: str) -> bool:
        assert subject.user == "system:serviceaccount:vault:vault-reviewer"
        if resource == "tokenreviews.authentication.k8s.io":
            return (verb, namespace) == ("create", "") and self.broken != "no token reviews"
        return self.broken == "a powerful reviewer" and (verb, resource, namespace) == ("get", "secrets", "")

    def run(
        self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float, stdin: str = ""
    ) -> Completed:
        self.ran.append((pod, list(command)))
        if command[2] != SCRIPT:
            self.files = {**getattr(self, "files", {}), command[4]: command[5]}
            return Completed(0, "", "")
        _, ca, jwt, role, path, agent, keys, *requests = command[4:]
        assert keys == "clientcert clientkey servercert PIN"
        if role != "istiod":
            assert path == "asm-c2/hsm"
            error = "permission denied" if self.broken == "no other cluster" else f'invalid role name "{role}"'
            return Completed(0, f"0 400 {json.dumps({'errors': [error]})}\n", "")
        trusts = ca == vault.CA or self.files[ca] == CA
        if not trusts and self.broken != "TLS not verified":
            return Completed(0, "60 0 unable to get local issuer certificate\n", "")
        replies = [self._login(namespace, pod, jwt, path)]
        self._log(agent, f"auth/{path}/login", replies[0])
        if " 200 " in replies[0]:
            for method, asked, its in zip(requests[::3], requests[1::3], requests[2::3], strict=True):
                replies.append(self._answer(method, asked))
                self._log(its, asked, replies[-1])
        return Completed(0, "\n".join(replies) + "\n", "")

    def _login(self, namespace: str, pod: str, jwt: str, path: str) -> str:
        wrong = {
            "another cluster": path != "asm-c1/hsm",
            "another audience": jwt != vault.TOKEN,
            "another account": pod.endswith("-stranger"),
            "another namespace": namespace != "istio-system",
        }
        words = {
            "another cluster": "permission denied",
            "another audience": "invalid audience (aud) claim: audience claim found in token",
            "another account": "service account name not authorized",
            "another namespace": "namespace not authorized",
        }
        for what, is_so in wrong.items():
            if is_so and self.broken != f"{what} let in":
                words_said = "role not found" if self.broken == "another reason" else words[what]
                return "0 403 " + json.dumps({"errors": [words_said]})
        policies = ["default", "root" if self.broken == "more policies" else "asm-c1-hsm-policy"]
        seconds = 2764800 if self.broken == "a long login" else 3600
        return "0 200 " + json.dumps(
            {"policies": policies, "seconds": seconds, "account": "istio-system/istiod-1-31-1"}
        )

    def _answer(self, method: str, asked: str) -> str:
        if (method, asked) == ("GET", "asm-c1/data/hsm"):
            return "0 200 clientcert clientkey" if self.broken == "values missing" else f"0 200 {' '.join(SECRETS)}"
        if self.broken == f"{method} {asked}":
            return "0 400 " + json.dumps({"errors": ["no data provided"]})
        return "0 403 " + json.dumps({"errors": ["permission denied"]})

    def _log(self, agent: str, path: str, reply: str) -> None:
        if self.broken == "no audit":
            return
        request = {"id": "b7c9", "operation": "update", "path": path, "remote_address": "10.1.1.7"}
        error = None if " 200 " in reply else "denied by a test"
        with self.audit.open("a") as file:
            for kind in ("request", "response"):
                entry = {"type": kind, "time": "now", "request": {**request, "headers": {"user-agent": [agent]}}}
                file.write(json.dumps({**entry, "error": error}) + "\n")


@pytest.fixture
def settings(dev_config: dict[str, Any], tmp_path: Path) -> Settings:
    (tmp_path / "vault-ca.pem").write_text(CA)
    (tmp_path / "audit.log").touch()
    dev_config["authority"] = {
        "kind": "hsm",
        "generations": [{"name": "2026", "chain": mesh_ca.chain("2026")}],
        "vault": {
            "address": "https://vault.example.com:8200",
            "ca": str(tmp_path / "vault-ca.pem"),
            "mount": "asm-c1",
            "serviceAccounts": ["istiod-1-31-1"],
        },
    }
    dev_config["verify"] = {"vault": {"auditLog": str(tmp_path / "audit.log"), "otherMount": "asm-c2"}}
    return load(dev_config)


def _outcomes(settings: Settings, directory: Path, cluster: Vault) -> list[tuple[Probe, Outcome]]:
    asked = context(directory, settings, kube=cluster)
    probes = list(vault.probes(settings))
    asked.pods.start(workload for probe in probes for workload in probe.workloads)
    return [(probe, probe.attempt(asked)) for probe in probes]


READS, ACCOUNT, NAMESPACE, AUDIENCE, ROLE, OTHER, WRITE, MOUNTS, TLS, CONFIG_MAP, REVIEWER = range(11)


@pytest.mark.parametrize(
    ("broken", "short", "why"),
    [
        ("", set(), ""),
        ("another account let in", {ACCOUNT}, "status is 200, not 403"),
        ("another namespace let in", {NAMESPACE}, "status is 200, not 403"),
        ("another audience let in", {AUDIENCE}, "status is 200, not 403"),
        ("another cluster let in", {ROLE}, "status is 200, not 403"),
        ("no other cluster", {ROLE}, "auth/asm-c2/hsm is no kubernetes auth method"),
        ("another reason", {ACCOUNT, NAMESPACE, AUDIENCE}, "Vault does not say"),
        ("more policies", {READS}, "its policies is ['default', 'root'], not ['asm-c1-hsm-policy', 'default']"),
        ("a long login", {READS}, "is 2764800, not 3600"),
        ("values missing", {READS}, "servercert, PIN empty or missing: `python -m authority provision`"),
        ("GET asm-c2/data/hsm", {OTHER}, "status is 400, not 403"),
        ("POST asm-c1/data/hsm", {WRITE}, "status is 400, not 403"),
        ("GET sys/mounts", {MOUNTS}, "status is 400, not 403"),
        ("TLS not verified", {TLS}, "200"),
        ("another CA in the ConfigMap", {CONFIG_MAP}, "its content is ['other "),
        ("no token reviews", {REVIEWER}, "it may not have tokens reviewed"),
        ("a powerful reviewer", {REVIEWER}, "it may get secrets in the cluster"),
        ("no audit", set(range(READS, TLS)), "Vault's audit log has no line of it"),
    ],
)
def test_each_probe_fails_for_its_own_reason(
    settings: Settings, tmp_path: Path, broken: str, short: set[int], why: str
) -> None:
    outcomes = _outcomes(settings, tmp_path, Vault(tmp_path / "audit.log", broken))
    assert {index for index, (_, outcome) in enumerate(outcomes) if outcome.ok is False} == short
    assert all(outcome.evidence for _, outcome in outcomes if outcome.ok)
    for index in short:
        assert why in outcomes[index][1].observed


def test_denials_have_the_success_as_their_pair_and_the_log_as_evidence(settings: Settings, tmp_path: Path) -> None:
    outcomes = _outcomes(settings, tmp_path, Vault(tmp_path / "audit.log"))
    success = outcomes[READS][0]
    assert [probe.pair for probe, _ in outcomes] == [None, *[success] * 8, None, None]
    evidence = outcomes[NAMESPACE][1].evidence
    assert evidence == (
        "Vault's audit log: now request b7c9 update auth/asm-c1/hsm/login from 10.1.1.7: denied by a test"
    )


def test_without_another_cluster_nothing_is_said_of_it(settings: Settings, tmp_path: Path) -> None:
    alone = settings.model_copy(update={"verify": type(settings.verify)()})
    outcomes = _outcomes(alone, tmp_path, Vault(tmp_path / "audit.log"))
    assert [outcome.ok for _, outcome in outcomes] == [True] * 4 + [None] * 2 + [True] * 5
    assert outcomes[ACCOUNT][1].evidence == "Vault's answer: 403 (service account name not authorized)"


def test_the_pods_are_who_they_should_be(settings: Settings, tmp_path: Path) -> None:
    cluster = Vault(tmp_path / "audit.log")
    _outcomes(settings, tmp_path, cluster)
    pods: list[Any] = [item for item in cluster.created if isinstance(item, Pod)]
    accounts: list[Any] = [item for item in cluster.created if isinstance(item, ServiceAccount)]
    istiod, stranger, namesake = (
        next(pod for pod in pods if pod.metadata.name.endswith(name))
        for name in ("-vault-istiod", "-vault-stranger", "istiod-1-31-1")
    )
    real = ("istio-system", "istiod-1-31-1")
    seen = [(pod.metadata.namespace, pod.spec.serviceAccountName) for pod in (istiod, stranger, namesake)]
    assert seen == [real, ("istio-system", stranger.metadata.name), (namesake.metadata.namespace, "istiod-1-31-1")]
    assert namesake.metadata.namespace.startswith("meshgate-verify-")
    # The account of istiod is its own; those of the others are made, and taken away.
    assert {(account.metadata.namespace, account.metadata.name) for account in accounts} == set(seen) - {real}
    for pod, has_ca in ((istiod, True), (stranger, True), (namesake, False)):
        sources = pod.spec.volumes[-1].projected.sources
        tokens = [source.serviceAccountToken for source in sources if source.serviceAccountToken]
        assert [(token.audience, token.path) for token in tokens] == [
            ("vault", "token"),
            ("not-vault", "other-audience"),
        ]
        maps = [source.configMap.name for source in sources if source.configMap]
        assert maps == (["vault-tls-cert"] if has_ca else [])
        assert pod.spec.automountServiceAccountToken is False


def test_kv_version_1_and_a_mesh_elsewhere(dev_config: dict[str, Any], settings: Settings, tmp_path: Path) -> None:
    assert settings.authority is not None
    vault_settings = settings.vault
    assert vault_settings is not None
    first = vault_settings.model_copy(update={"kv_version": 1, "service_accounts": ("istiod-a", "istiod-b")})
    alone = settings.model_copy(
        update={"mesh": None, "authority": settings.authority.model_copy(update={"vault": first})}
    )
    cluster = Vault(tmp_path / "audit.log")
    asked = context(tmp_path, alone, kube=cluster)
    reads = next(iter(vault.probes(alone)))
    asked.pods.start(reads.workloads)
    reads.attempt(asked)
    assert "a pod of istio-system/istiod-a logs in" in reads.expected
    assert cluster.ran[-1][1][-2] == "asm-c1/hsm"


def test_an_audit_log_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"meshgate:verify\.vault\.auditLog: cannot read .*No such file"):
        AuditLog(str(tmp_path / "none")).line("agent")


def test_without_vault_there_are_no_probes(dev_config: dict[str, Any]) -> None:
    dev_config["authority"] = {"kind": "self-signed"}
    assert list(vault.probes(load(dev_config))) == []
