"""Google's stand-ins: who a pod is to the metadata server, and what storage gives whom."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.models.core_v1 import Container, PodSpec, PodStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Pod, ServiceAccount

from lab.google import iam, metadata, storage, workloads
from lab.google.metadata import ANNOTATION, Workload
from lab.google.workloads import Workloads
from lab.web import Answer, Request

ACCOUNT = "sa-test-app-team-x@meshgate-lab.iam.gserviceaccount.com"
BUCKET = "meshgate-lab-bucket"
SERVICE_ACCOUNTS = "/computeMetadata/v1/instance/service-accounts/"
FLAVOR = {"metadata-flavor": "Google"}

POD = "10.1.1.5"
BOUND = Workload("team-x", "test", ACCOUNT)
PLAIN = Workload("team-x", "other", "")

PROJECT = iam.load()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> iam.Tokens:
    return iam.Tokens(b"key", clock)


Ask = Callable[..., Answer]


@pytest.fixture
def ask(tokens: iam.Tokens) -> Ask:
    """The metadata server's answer to a workload."""

    def ask(workload: Workload | None, path: str, headers: Mapping[str, str] = FLAVOR, **query: str) -> Answer:
        request = Request(path, query=query, headers=headers, client=POD)
        return metadata.answer(PROJECT, tokens, {POD: workload}.get, request)

    return ask


@pytest.fixture
def read(tokens: iam.Tokens) -> Ask:
    """Storage's answer to whoever has the token."""

    def read(token: str | None, path: str, secure: bool = True, **query: str) -> Answer:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return storage.answer(PROJECT, tokens, Request(path, query=query, headers=headers, secure=secure))

    return read


def token_of(ask: Ask, workload: Workload) -> str:
    answer = ask(workload, f"{SERVICE_ACCOUNTS}default/token")
    assert answer.status == 200
    return str(json.loads(answer.body)["access_token"])


# The project


def test_the_documents_account_is_team_xs_alone() -> None:
    policy = PROJECT.accounts[ACCOUNT]
    assert policy == {
        "roles/iam.workloadIdentityUser": {"serviceAccount:meshgate-lab.svc.id.goog[team-x/test]"},
    }
    assert PROJECT.buckets[BUCKET].policy == {"roles/storage.objectViewer": {f"serviceAccount:{ACCOUNT}"}}
    assert PROJECT.buckets[BUCKET].objects["hello"] == "Hello, World!\n"


def test_a_role_gives_its_permissions_to_its_members_alone() -> None:
    policy = {"roles/storage.objectViewer": frozenset({"serviceAccount:a@x"})}
    assert iam.allows(policy, "a@x", "storage.objects.get")
    assert not iam.allows(policy, "a@x", "storage.objects.create")
    assert not iam.allows(policy, "b@x", "storage.objects.get")
    assert not iam.allows({}, "a@x", "storage.objects.get")


def test_an_unknown_role_is_no_role(tmp_path: Path) -> None:
    content = yaml.safe_load(iam.PROJECT.read_text())
    content["buckets"][BUCKET]["policy"]["roles/storage.admin"] = []
    changed = tmp_path / "project.yaml"
    changed.write_text(yaml.safe_dump(content))
    with pytest.raises(KeyError, match=r"roles/storage\.admin"):
        iam.load(changed)


def test_tokens_end_and_cannot_be_forged(tokens: iam.Tokens, clock: Clock) -> None:
    token = tokens.issue("a@x")
    assert tokens.account(token) == "a@x"
    assert iam.Tokens(b"another key", clock).account(token) is None
    assert iam.Tokens(b"key", clock).account(token.replace(".", ".A", 1)) is None
    assert [tokens.account(wrong) for wrong in ("", "ya29", "ya29.x", "ya29..", "ya29.x.y.z", "y\u00e4")] == [None] * 6
    clock.now += iam.LIFETIME - 1
    assert tokens.account(token) == "a@x"
    clock.now += 1
    assert tokens.account(token) is None


# The metadata server


def test_requests_without_the_header_are_refused(ask: Ask) -> None:
    for headers in ({}, {"metadata-flavor": "google"}):
        answer = ask(BOUND, f"{SERVICE_ACCOUNTS}default/token", headers)
        assert (answer.status, answer.body) == (403, 'Missing required header "Metadata-Flavor": "Google"\n')


def test_forwarded_requests_are_refused(ask: Ask) -> None:
    answer = ask(BOUND, f"{SERVICE_ACCOUNTS}default/token", {**FLAVOR, "x-forwarded-for": "10.1.1.5"})
    assert answer.status == 403
    assert "X-Forwarded-For" in answer.body


def test_an_address_of_no_pod_gets_nothing(ask: Ask) -> None:
    for path in ("/", f"{SERVICE_ACCOUNTS}default/token"):
        answer = ask(None, path)
        assert (answer.status, answer.body) == (403, f"No workload has the address {POD}\n")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", "computeMetadata/\n"),
        ("/computeMetadata/v1/", "instance/\nproject/\n"),
        ("/computeMetadata/v1/project/project-id", "meshgate-lab"),
        (SERVICE_ACCOUNTS, f"default/\n{ACCOUNT}/\n"),
        (f"{SERVICE_ACCOUNTS}default/", "aliases\nemail\nscopes\ntoken\n"),
        (f"{SERVICE_ACCOUNTS}default/email", ACCOUNT),
        (f"{SERVICE_ACCOUNTS}{ACCOUNT}/email", ACCOUNT),
        (f"{SERVICE_ACCOUNTS}default/scopes", "https://www.googleapis.com/auth/cloud-platform\n"),
    ],
)
def test_what_a_workload_sees(ask: Ask, path: str, body: str) -> None:
    answer = ask(BOUND, path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["Metadata-Flavor"] == "Google"
    assert answer.caller == "meshgate-lab.svc.id.goog[team-x/test]"


def test_client_libraries_ask_for_all_at_once(ask: Ask) -> None:
    answer = ask(BOUND, f"{SERVICE_ACCOUNTS}default/", recursive="true")
    assert json.loads(answer.body) == {
        "aliases": ["default"],
        "email": ACCOUNT,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
    }


@pytest.mark.parametrize("path", ["/computeMetadata/v2/", f"{SERVICE_ACCOUNTS}other@x/token", "/x/y"])
def test_what_is_not_there(ask: Ask, path: str) -> None:
    assert ask(BOUND, path).status == 404


def test_token_of_a_bound_workload(ask: Ask, tokens: iam.Tokens) -> None:
    content = json.loads(ask(BOUND, f"{SERVICE_ACCOUNTS}default/token").body)
    assert tokens.account(content.pop("access_token")) == ACCOUNT
    assert content == {"expires_in": 3599, "token_type": "Bearer"}


def test_without_annotation_a_workload_is_itself(ask: Ask, tokens: iam.Tokens) -> None:
    assert ask(PLAIN, f"{SERVICE_ACCOUNTS}default/email").body == "meshgate-lab.svc.id.goog"
    assert tokens.account(token_of(ask, PLAIN)) == "meshgate-lab.svc.id.goog[team-x/other]"


@pytest.mark.parametrize(
    "workload",
    [
        Workload("team-y", "test", ACCOUNT),
        Workload("team-x", "other", ACCOUNT),
        Workload("team-x", "test", "nobody@meshgate-lab.iam.gserviceaccount.com"),
    ],
)
def test_an_annotation_without_binding_gives_no_token(ask: Ask, workload: Workload) -> None:
    answer = ask(workload, f"{SERVICE_ACCOUNTS}default/token")
    assert answer.status == 403
    assert answer.body.startswith(
        "Unable to generate access token; IAM returned 403 Forbidden: Permission 'iam.service"
    )
    assert answer.caller == f"meshgate-lab.svc.id.goog[{workload.namespace}/{workload.service_account}]"


# Storage

HELLO = f"/storage/v1/b/{BUCKET}/o/hello"


@pytest.mark.parametrize(
    ("path", "query"), [(HELLO, {"alt": "media"}), (f"/download{HELLO}", {"alt": "media"}), (f"/{BUCKET}/hello", {})]
)
def test_the_account_reads_its_object(ask: Ask, read: Ask, path: str, query: dict[str, str]) -> None:
    answer = read(token_of(ask, BOUND), path, **query)
    assert (answer.status, answer.body, answer.caller) == (200, "Hello, World!\n", ACCOUNT)


def test_lists_and_descriptions(ask: Ask, read: Ask) -> None:
    token = token_of(ask, BOUND)
    described = json.loads(read(token, HELLO).body)
    assert (described["name"], described["bucket"], described["size"]) == ("hello", BUCKET, "14")
    listed = json.loads(read(token, f"/storage/v1/b/{BUCKET}/o").body)
    assert listed == {"kind": "storage#objects", "items": [described]}
    assert "items" not in json.loads(read(token, f"/storage/v1/b/{BUCKET}/o", prefix="x").body)


def test_an_objects_name_may_have_slashes(tokens: iam.Tokens, read: Ask) -> None:
    token = tokens.issue("sa-lab-reader@meshgate-lab.iam.gserviceaccount.com")
    assert read(token, "/storage/v1/b/lab-tests-bucket/o/folder%2Fhello", alt="media").body == "Hello, test!\n"
    assert read(token, "/lab-tests-bucket/folder/hello").body == "Hello, test!\n"


def test_an_account_without_role_is_refused(ask: Ask, read: Ask) -> None:
    denied = (
        "does not have storage.objects.{0} access to the Google Cloud Storage {1}. Permission 'storage.objects.{0}'"
    )
    token, name = token_of(ask, PLAIN), "meshgate-lab.svc.id.goog[team-x/other]"
    answer = read(token, HELLO, alt="media")
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["errors"][0]["reason"], answer.caller) == (403, 403, "forbidden", name)
    assert error["message"].startswith(f"{name} {denied.format('get', 'object')}")
    listed = read(token, f"/storage/v1/b/{BUCKET}/o")
    assert listed.status == 403
    assert denied.format("list", "bucket") in json.loads(listed.body)["error"]["message"]
    plain = read(token, f"/{BUCKET}/hello")
    assert plain.status == 403
    assert "<Code>AccessDenied</Code>" in plain.body


def test_nobody_is_refused(read: Ask) -> None:
    answer = read(None, HELLO, alt="media")
    assert (answer.status, answer.caller) == (401, "anonymous")
    assert json.loads(answer.body)["error"]["message"].startswith("Anonymous caller does not have storage.objects.get")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert read(None, f"/{BUCKET}/hello").status == 403
    assert read(None, "/storage/v1/b/no-such-bucket/o").status == 401  # a stranger does not learn which buckets exist


def test_a_token_that_is_none(ask: Ask, read: Ask, clock: Clock) -> None:
    token = token_of(ask, BOUND)
    assert read(token + "x", HELLO).status == 401
    clock.now += iam.LIFETIME
    answer = read(token, HELLO)
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (401, "Invalid Credentials")


def test_a_token_is_not_taken_in_the_clear(ask: Ask, read: Ask) -> None:
    answer = read(token_of(ask, BOUND), HELLO, secure=False, alt="media")
    assert (answer.status, json.loads(answer.body)["error"]["errors"][0]["reason"]) == (403, "sslRequired")


def test_what_storage_does_not_have(ask: Ask, read: Ask) -> None:
    token = token_of(ask, BOUND)
    missing = read(token, f"/storage/v1/b/{BUCKET}/o/other", alt="media")
    assert (missing.status, json.loads(missing.body)["error"]["message"]) == (404, f"No such object: {BUCKET}/other")
    assert "<Code>NoSuchBucket</Code>" in read(token, "/no-such-bucket/hello").body
    assert read(token, "/").status == 404
    assert read(None, "/generate_204", secure=False).status == 204


# Whose an address is


class Cluster:
    """The API server, as far as it is asked."""

    def __init__(self, pods: list[Pod], accounts: list[ServiceAccount]) -> None:
        self.pods, self.accounts, self.asked = pods, accounts, 0

    def list(self, kind: type[Pod], namespace: str, fields: dict[str, str]) -> list[Pod]:
        assert (kind, namespace) == (Pod, "*")
        self.asked += 1
        return [it for it in self.pods if it.status and it.status.podIP == fields["status.podIP"]]

    def get(self, kind: type[ServiceAccount], name: str, namespace: str) -> ServiceAccount:
        for it in self.accounts:
            if it.metadata and (it.metadata.namespace, it.metadata.name) == (namespace, name):
                return it
        error = cast(Any, ApiError.__new__(ApiError))
        error.status = type("Status", (), {"code": 404})
        raise error


def pod(address: str, account: str, phase: str = "Running", host_network: bool = False, namespace: str = "a") -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace=namespace),
        spec=PodSpec(containers=[Container(name="c")], serviceAccountName=account, hostNetwork=host_network or None),
        status=PodStatus(phase=phase, podIP=address),
    )


def account(name: str, email: str = "", namespace: str = "a") -> ServiceAccount:
    annotations = {ANNOTATION: email} if email else None
    return ServiceAccount(metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations))


def find(cluster: Cluster, address: str) -> Workload | None:
    return Workloads(cast(Client, cluster)).find(address)


def test_a_pod_is_known_by_its_address() -> None:
    cluster = Cluster(
        [pod("10.1.1.5", "one"), pod("10.1.1.6", "two", "Pending", namespace="b")],
        [account("one", ACCOUNT), account("two", namespace="b")],
    )
    assert find(cluster, "10.1.1.5") == Workload("a", "one", ACCOUNT)
    assert find(cluster, "10.1.1.6") == Workload("b", "two", "")


def test_an_ended_pod_has_no_address_any_more() -> None:
    ended = [pod("10.1.1.5", "old", phase) for phase in ("Succeeded", "Failed")]
    assert find(Cluster([*ended, pod("10.1.1.5", "new")], [account("old"), account("new")]), "10.1.1.5") == Workload(
        "a", "new", ""
    )


def test_a_node_is_no_workload_and_is_told_so_at_once() -> None:
    cluster = Cluster([pod("10.0.0.11", "one", host_network=True)], [account("one", ACCOUNT)])
    assert find(cluster, "10.0.0.11") is None
    assert cluster.asked == 0


def test_a_new_pods_address_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster([], [account("one", ACCOUNT)])

    def sleep(_: float) -> None:
        cluster.pods = [pod("10.1.1.5", "one")]

    monkeypatch.setattr("lab.google.workloads.time.sleep", sleep)
    assert find(cluster, "10.1.1.5") == Workload("a", "one", ACCOUNT)
    assert cluster.asked == 2
    monkeypatch.setattr(workloads, "PATIENCE", -1.0)
    assert find(cluster, "10.1.1.9") is None


def test_a_deleted_account_is_nobodys() -> None:
    assert find(Cluster([pod("10.1.1.5", "gone")], []), "10.1.1.5") is None


def test_its_rights_are_just_what_it_uses() -> None:
    text = (Path(workloads.__file__).parents[1] / "manifests.yaml").read_text()
    documents = yaml.safe_load_all(re.sub(r"\$\{\w+}", "x", text))
    (role,) = [it for it in documents if it["kind"] == "ClusterRole" and it["metadata"]["name"] == "lab:google"]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]},
    ]
