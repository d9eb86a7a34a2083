"""Google's stand-ins and mutual.example.com, asked by real pods: who a pod is follows from its ServiceAccount alone."""

import json
import os
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from lab import cluster, machine
from lab.instance import Instance
from lab.topology import PRIVATE_APIS

pytestmark = [pytest.mark.lab, pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")]

NAMESPACE = "lab-google"
EMAIL = "sa-lab-reader@meshgate-lab.iam.gserviceaccount.com"

ACCOUNT = """
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: lab-google, annotations: {{iam.gke.io/gcp-service-account: {email}}}}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: lab-google}}
spec:
  serviceAccountName: {account}
  terminationGracePeriodSeconds: 0
  containers: [{{name: c, image: "docker.io/curlimages/curl:8.16.0", command: [sleep, infinity]}}]
"""
MANIFESTS = [
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: lab-google}\n",
    ACCOUNT.format(name="reader", email=EMAIL),
    ACCOUNT.format(name="stranger", email=EMAIL),  # it names the account, but the account's policy does not name it
    *(POD.format(name=name, account=account) for name, account in [("reader", "reader"), ("stranger", "stranger")]),
    POD.format(name="plain", account="default"),
]

# Standard input is the certificate of the authority to trust.
READ = """
cat > /tmp/ca.pem
token=$(curl -sS -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token)
echo "$token" >&2
curl -sS --cacert /tmp/ca.pem -w '\\n%{http_code} %{remote_ip}' \
    -H "Authorization: Bearer $(echo "$token" | sed -n 's/.*"access_token": "\\([^"]*\\)".*/\\1/p')" \
    'https://storage.googleapis.com/storage/v1/b/lab-tests-bucket/o/folder%2Fhello?alt=media'
"""


@pytest.fixture(scope="module")
def pods(lab: Instance) -> Iterator[None]:
    cluster.apply(lab, "---".join(MANIFESTS))
    try:
        answer = cluster.kubectl(
            lab, ["-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]
        )
        assert answer.returncode == 0, answer.stderr
        yield
    finally:
        cluster.kubectl(lab, ["delete", "namespace", NAMESPACE])


def read(lab: Instance, pod: str) -> tuple[str, str, IPv4Address, str]:
    """A pod reads the object: body, status, the server's address, and what the metadata server said."""
    command = ["-n", NAMESPACE, "exec", "-i", pod, "--", "sh", "-c", READ]
    answer = cluster.kubectl(lab, command, lab.internet_ca.read_text())
    assert answer.returncode == 0, answer.stderr
    body, _, last = answer.stdout.rpartition("\n")
    status, server = last.split()
    return body, status, IPv4Address(server), answer.stderr


def curl(lab: Instance, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [*machine.enter(lab, name), "curl", "--silent", "--max-time", "5", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_bound_pod_reads_its_bucket(lab: Instance, pods: None) -> None:
    body, status, server, _ = read(lab, "reader")
    assert (body, status) == ("Hello, test!\n", "200")
    assert server in PRIVATE_APIS
    address = cluster.kubectl(lab, ["-n", NAMESPACE, "get", "pod", "reader", "-o", "jsonpath={.status.podIP}"]).stdout
    log = lab.log("google-google").read_text()
    assert f"/service-accounts/default/token 200 {address} meshgate-lab.svc.id.goog[lab-google/reader]\n" in log
    assert f"/o/folder%2Fhello?alt=media 200 {address} {EMAIL}\n" in log


def test_a_pod_without_annotation_is_refused(lab: Instance, pods: None) -> None:
    body, status, _, _ = read(lab, "plain")
    assert status == "403"
    message = json.loads(body)["error"]["message"]
    assert message.startswith("meshgate-lab.svc.id.goog[lab-google/default] does not have storage.objects.get access")


def test_a_pod_without_binding_gets_no_token(lab: Instance, pods: None) -> None:
    _, status, _, token = read(lab, "stranger")
    assert "Unable to generate access token; IAM returned 403 Forbidden" in token
    assert status == "401"


def test_a_node_is_no_workload(lab: Instance) -> None:
    answer = curl(lab, "app-1", "-H", "Metadata-Flavor: Google", "http://metadata.google.internal/")
    assert answer.stdout == "No workload has the address 10.0.0.11\n"


def test_mutual_example_com_knows_its_clients(lab: Instance) -> None:
    own = ("--cert", str(lab.internet_client_certificate), "--key", str(lab.internet_client_key))
    trusting = ("--cacert", str(lab.internet_ca), "https://mutual.example.com/")
    known = curl(lab, "client-a", *own, *trusting)
    assert json.loads(known.stdout) == {"client": {"organizationName": "meshgate-lab", "commonName": "egress-gateway"}}
    unknown = curl(lab, "client-a", *trusting)
    assert unknown.returncode == 56  # the handshake's alert comes when the answer is read
    assert unknown.stdout == ""
