"""The lab's Vault and HSM: who reaches them, who is let in, and what a restart leaves."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hvac.exceptions import Forbidden

from lab import cluster, counters, hsm, machine, service, vault
from lab import pulumi as runner
from lab.errors import LabError
from lab.instance import Instance
from lab.service import Service
from lab.topology import API_PORT, CONTROL_PLANE, SERVERS, VAULT

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")]

HEALTH = f"{vault.ADDRESS}/v1/sys/health"
OWN = "lab-vault"
"""An auth method of the lab's own cluster, and the namespace of its account."""


@pytest.fixture
def server(lab: Instance) -> Service:
    return vault.of(lab)


def curl(lab: Instance, where: str, *arguments: str) -> tuple[int, str]:
    """curl's exit code, and the answer's status."""
    command = [*machine.enter(lab, where), "curl", "-sS", "-m2", "-o/dev/null", "-w%{http_code}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("where", ["control", "app-1", "gateway"])
def test_nodes_reach_vault_by_its_certificate(lab: Instance, where: str) -> None:
    assert curl(lab, where, "--cacert", str(lab.vault_ca), HEALTH) == (0, "200")
    assert curl(lab, where, HEALTH)[0] == 60  # whose authority is nobody's else
    assert curl(lab, where, HEALTH.replace("https", "http")) == (0, "400")


def test_nobody_else_reaches_it_and_it_reaches_the_api_server_alone(lab: Instance) -> None:
    assert curl(lab, "client-a", "-k", HEALTH)[0] == 28
    before = counters.firewall(lab)["vault-to-control"]
    assert curl(lab, VAULT, "-k", f"https://{CONTROL_PLANE}:{API_PORT}/version") == (0, "200")
    assert counters.firewall(lab)["vault-to-control"] > before
    assert curl(lab, VAULT, f"http://{SERVERS['httpbin.org']}/status/200")[0] == 28


def test_a_restart_leaves_it_sealed_and_what_it_knows(lab: Instance, server: Service) -> None:
    vault.as_root(lab, server, lambda client: client.write_data("cubbyhole/test", data={"kept": "yes"}))
    token = vault.deployer_token(lab).read_text()
    service.stop(lab, server)
    assert curl(lab, VAULT, "-k", HEALTH)[0] == 7
    service.start(lab, server)
    end = time.monotonic() + 60
    while (answer := curl(lab, VAULT, "-k", HEALTH))[0] and time.monotonic() < end:
        time.sleep(0.1)
    assert answer == (0, "503")  # it answers that it is sealed
    assert not service.ready(lab, server)
    with pytest.raises(LabError, match="sealed"):
        vault.as_root(lab, server, lambda client: client.read("cubbyhole/test"))
    vault.prepare(lab, server)
    assert service.ready(lab, server)
    kept = vault.as_root(lab, server, lambda client: client.read("cubbyhole/test")["data"])
    assert kept == {"kept": "yes"}
    assert vault.deployer_token(lab).read_text() == token


def test_a_deployers_token_that_ended_is_given_anew(lab: Instance, server: Service) -> None:
    old = vault.deployer_token(lab).read_text()
    vault.as_root(lab, server, lambda client: client.auth.token.revoke(old))
    vault.prepare(lab, server)
    new = vault.deployer_token(lab).read_text()
    assert new != old
    found = vault.as_root(lab, server, lambda client: client.auth.token.lookup(new)["data"])
    assert (found["policies"], found["period"]) == (["default", "meshgate-deployer"], 768 * 3600)
    assert found["orphan"]  # it outlives who gave it
    assert stat.S_IMODE(vault.deployer_token(lab).stat().st_mode) == 0o600


def test_what_a_killed_up_left_undone_is_done(lab: Instance, server: Service) -> None:
    vault.as_root(lab, server, lambda client: client.delete(vault.OTHER_ROLE))
    vault.prepare(lab, server)
    role = vault.as_root(lab, server, lambda client: client.read(vault.OTHER_ROLE)["data"])
    assert (role["bound_service_account_names"], role["audience"]) == (["istiod-*"], "vault")


def test_a_deployer_may_deploy_and_not_more(lab: Instance, server: Service) -> None:
    paths = {
        "sys/mounts/asm-c1": {"create", "update", "delete"},
        "sys/auth/asm-c1/hsm": {"create", "update", "delete", "sudo"},
        "sys/policies/acl/asm-c1-hsm-policy": {"create", "update", "delete"},
        "asm-c1/data/hsm": {"create", "update"},
    }
    closed = ["asm-c2/data/hsm", "sys/mounts/asm-c2", "sys/auth/asm-c2/hsm", "sys/policies/acl/default", "sys/seal"]
    token = vault.deployer_token(lab).read_text()

    def ask(client: Any) -> dict[str, list[str]]:
        answer: dict[str, list[str]] = client.sys.get_capabilities([*paths, *closed], token=token)["data"]
        return answer

    found = vault.as_root(lab, server, ask)
    assert all(needed <= set(found[path]) for path, needed in paths.items())
    assert "read" not in found["asm-c1/data/hsm"]
    assert {path: found[path] for path in closed} == {path: ["deny"] for path in closed}


@pytest.fixture
def own_method(lab: Instance, server: Service) -> Iterator[str]:
    """This cluster's auth method, in which any account may log in whose token is for `vault`: its path."""
    cluster.apply(lab, f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {OWN}}}\n")
    cluster.apply(lab, f"apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: istiod-x, namespace: {OWN}}}\n")
    binding = ["create", "clusterrolebinding", OWN, "--clusterrole=system:auth-delegator"]
    cluster.kubectl(lab, [*binding, f"--serviceaccount={OWN}:istiod-x"])
    config = {
        "kubernetes_host": f"https://{CONTROL_PLANE}:{API_PORT}",
        "kubernetes_ca_cert": (lab.directory / "pki" / "ca.pem").read_text(),
        "token_reviewer_jwt": token(lab, "https://kubernetes.default.svc.cluster.local"),
        "disable_iss_validation": True,
    }
    role = {"bound_service_account_names": "*", "bound_service_account_namespaces": "*", "audience": "vault"}

    def make(client: Any) -> None:
        client.sys.enable_auth_method("kubernetes", path=OWN)
        client.write_data(f"auth/{OWN}/config", data=config)
        client.write_data(f"auth/{OWN}/role/istiod", data=role)

    vault.as_root(lab, server, make)
    try:
        yield OWN
    finally:
        vault.as_root(lab, server, lambda client: client.sys.disable_auth_method(OWN))
        cluster.kubectl(lab, ["delete", f"namespace/{OWN}", f"clusterrolebinding/{OWN}", "--wait=false"])


def token(lab: Instance, audience: str) -> str:
    command = ["create", "token", "istiod-x", f"--namespace={OWN}", f"--audience={audience}"]
    answer = cluster.kubectl(lab, command)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def login(client: Any, method: str, jwt: str) -> str:
    """The name of whom Vault lets in; Forbidden when it does not."""
    auth = client.write_data(f"auth/{method}/login", data={"role": "istiod", "jwt": jwt})["auth"]
    client.auth.token.revoke(auth["client_token"])
    return str(auth["metadata"]["service_account_name"])


def test_another_cluster_takes_none_of_this_clusters_tokens(lab: Instance, server: Service, own_method: str) -> None:
    jwt = token(lab, "vault")
    assert vault.as_root(lab, server, lambda client: login(client, own_method, jwt)) == "istiod-x"
    # Vault says of other reasons what they are; of a signature of nobody's that it knows, only this.
    with pytest.raises(LabError, match="permission denied"):
        vault.as_root(lab, server, lambda client: login(client, vault.OTHER_AUTH, jwt))

    def refused(client: Any) -> str:
        with pytest.raises(Forbidden) as error:
            login(client, own_method, token(lab, "somebody"))
        return str(error.value)

    assert "audience" in vault.as_root(lab, server, refused)


def test_requests_are_in_the_audit_log_without_their_secrets(lab: Instance, server: Service) -> None:
    path = f"cubbyhole/audited-{time.monotonic_ns()}"
    vault.as_root(lab, server, lambda client: client.write_data(path, data={"word": "not-in-the-log"}))
    log = vault.audit_log(lab)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text()
    found = [line for line in map(json.loads, text.splitlines()) if line["request"]["path"] == path]
    assert [line["type"] for line in found] == ["request", "response"]
    assert found[1]["request"]["data"]["word"].startswith("hmac-sha256:")
    assert "not-in-the-log" not in text
    assert vault.root_token(lab).read_text() not in text


def test_the_hsms_token_opens_with_its_pin_alone(lab: Instance) -> None:
    def objects(pin: str) -> int:
        command = [*("pkcs11-tool", "--module", str(hsm.module())), *("--token-label", hsm.LABEL, "--login")]
        environment = {**runner.environment(lab), "PIN": pin}
        return subprocess.run([*command, "--pin", "env:PIN", "-O"], env=environment, capture_output=True).returncode

    assert objects(hsm.pin(lab).read_text()) == 0
    assert objects(hsm.client_files(lab)["PIN"].read_text()) != 0
    assert objects(hsm.so_pin(lab).read_text()) != 0


def test_what_is_secret_is_roots_alone(lab: Instance) -> None:
    files = [vault.root_token(lab), vault.unseal_key(lab), vault.deployer_token(lab), hsm.pin(lab), hsm.so_pin(lab)]
    files += [hsm.client_files(lab)[name] for name in ("clientkey", "PIN")]
    files += [
        file
        for place in (lab.vault_ca.parents[1] / "storage", hsm.configuration(lab).parent / "tokens")
        for file in place.rglob("*")
        if file.is_file()
    ]
    assert len(files) > 10
    assert [str(file) for file in files if stat.S_IMODE(file.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE(Path(lab.directory).stat().st_mode) == 0o700
