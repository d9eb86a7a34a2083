"""The lab's router decides as the analysis says: real connections, and the counters of the rules that decided."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest

from lab import counters, machine
from lab.firewall import NETWORK
from lab.instance import Instance
from lab.topology import (
    API_PORT,
    CONTROL,
    CONTROL_PLANE,
    INTERNET,
    METADATA_ADDRESS,
    NODES,
    PRIVATE_APIS,
    RESTRICTED_APIS,
    SERVERS,
)
from verify.firewall import Firewall, Party, Protocol

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")]

PATIENCE = 0.4
"""Seconds in which a packet is answered when nothing drops it."""

NODE = {node.name: node for node in NODES}
PARTIES = {
    **{name: Party(name, NODE[name].address, NODE[name].pool.name) for name in ("app-1", "app-2", "gateway")},
    # Nobody has this address: whether the packet got as far as the node, the rules' counters tell.
    "pod on app-2": Party("pod on app-2", NODE["app-2"].pods[250], "application"),
    "pod on gateway": Party("pod on gateway", NODE["gateway"].pods[250], "gateway"),
    CONTROL: Party(CONTROL, CONTROL_PLANE),
    INTERNET: Party(INTERNET, SERVERS["httpbin.org"]),
    "private APIs": Party("private APIs", PRIVATE_APIS[0]),
    "restricted APIs": Party("restricted APIs", RESTRICTED_APIS[0]),
    "metadata server": Party("metadata server", METADATA_ADDRESS),
}
QUESTIONS: list[tuple[str, str, Protocol, int]] = [
    ("app-1", INTERNET, "tcp", 80),
    ("app-1", INTERNET, "tcp", 443),
    ("app-1", INTERNET, "tcp", 22),
    ("app-1", INTERNET, "udp", 53),
    ("gateway", INTERNET, "tcp", 80),
    ("gateway", INTERNET, "tcp", 443),
    ("gateway", INTERNET, "tcp", 25),
    ("gateway", INTERNET, "udp", 443),
    ("app-1", CONTROL, "tcp", 10250),
    ("app-1", CONTROL, "tcp", 8132),
    ("app-1", CONTROL, "tcp", 22),
    ("gateway", CONTROL, "tcp", 8132),
    ("gateway", CONTROL, "tcp", 22),
    ("app-1", "app-2", "tcp", 10250),
    ("app-1", "app-2", "tcp", 10255),
    ("app-1", "app-2", "tcp", 5473),
    ("app-1", "gateway", "tcp", 10250),
    ("app-1", "gateway", "tcp", 22),
    ("gateway", "app-1", "tcp", 10250),
    ("gateway", "app-1", "tcp", 22),
    ("app-1", "pod on app-2", "tcp", 8080),
    ("app-1", "pod on gateway", "tcp", 15443),
    ("app-1", "pod on gateway", "udp", 53),
    ("gateway", "pod on app-2", "tcp", 15012),
    ("app-1", "private APIs", "tcp", 443),
    ("app-1", "private APIs", "udp", 443),
    ("app-1", "restricted APIs", "tcp", 443),
    ("gateway", "private APIs", "tcp", 80),
    ("app-1", "metadata server", "tcp", 80),
    ("app-1", "metadata server", "udp", 123),
    (CONTROL, "app-1", "tcp", 10250),
    (CONTROL, "app-1", "tcp", 443),
    (CONTROL, "pod on app-2", "tcp", 15017),
    (INTERNET, "app-1", "tcp", 443),
    (INTERNET, "app-1", "tcp", 10255),
    (INTERNET, "gateway", "tcp", 22),
]


def try_out(lab: Instance, source: str, target: Party, protocol: Protocol, port: int) -> bool | None:
    """Whether a connection is answered, be it by a refusal; None for a datagram, which nobody answers."""

    def ask() -> bool | None:
        if protocol == "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
                datagram.sendto(b"?", (str(target.address), port))
            return None
        try:
            socket.create_connection((str(target.address), port), timeout=PATIENCE).close()
        except ConnectionRefusedError:
            return True
        except OSError:  # no answer, or the last node's word that nobody has the address
            return False
        return True

    return machine.in_network(lab, source, ask)


def rise(lab: Instance, before: Mapping[str, int], counter: str) -> int:
    """How much a counter has gone up; a packet may take a moment."""
    end = time.monotonic() + 1
    while (found := counters.firewall(lab)[counter] - before[counter]) == 0 and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(
    ("source", "target", "protocol", "port"),
    QUESTIONS,
    ids=[f"{source} to {target} {protocol} {port}" for source, target, protocol, port in QUESTIONS],
)
def test_traffic_agrees_with_the_analysis(
    lab: Instance, source: str, target: str, protocol: Protocol, port: int
) -> None:
    asking, asked = PARTIES[source], PARTIES[target]
    answer = Firewall.of(NETWORK).ask(asking, asked, protocol, port)
    before = counters.firewall(lab)
    answered = try_out(lab, source, asked, protocol, port)
    if answered is not None and not target.startswith("pod on"):
        assert answered == answer.allowed, answer.decided_by
    if answer.egress:
        assert rise(lab, before, f"{asking.account}/{answer.egress.rule}") > 0
    if answer.ingress and (answer.egress is None or answer.egress.allowed):
        assert rise(lab, before, f"{asked.account}/{answer.ingress.rule}") > 0


def test_the_sample_has_both_answers() -> None:
    answers = {
        (source, Firewall.of(NETWORK).ask(PARTIES[source], PARTIES[target], protocol, port).allowed)
        for source, target, protocol, port in QUESTIONS
    }
    assert answers >= {(source, allowed) for source in ("app-1", "gateway") for allowed in (True, False)}


def test_the_labs_own_rules(lab: Instance) -> None:
    """What the lab needs besides, each by its rule."""
    before = counters.firewall(lab)
    assert try_out(lab, "app-1", PARTIES[CONTROL], "tcp", API_PORT)
    assert try_out(lab, "app-1", PARTIES[CONTROL], "tcp", 5000)
    assert try_out(lab, "app-1", PARTIES[CONTROL], "tcp", 53)
    assert try_out(lab, "open", PARTIES[INTERNET], "tcp", 80)
    assert try_out(lab, CONTROL, PARTIES["app-1"], "tcp", 22)
    for counter in (
        "application/allow-egress-to-api-server",
        "application/lab-allow-egress-registry",
        "application/lab-allow-egress-dns",
        "open/lab-open-allow-egress-all",
        "application/lab-allow-ingress-shell",
    ):
        assert rise(lab, before, counter) > 0, counter


def test_counters_command(lab: Instance) -> None:
    try_out(lab, "app-2", PARTIES[INTERNET], "tcp", 443)
    command = [sys.executable, "-m", "lab", "--instance", lab.name, "counters", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["global-deny-egress-all"] >= found["application/global-deny-egress-all"] > 0
