"""What verify makes of the Kubernetes API's answers and of connections that break."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import lightkube
import pytest
from httpx2.websockets import WebSocketDisconnect, WebSocketNetworkError
from lightkube.core.exceptions import ApiError
from lightkube.models.authorization_v1 import SubjectAccessReviewStatus
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.authorization_v1 import SubjectAccessReview
from lightkube.resources.core_v1 import Pod, Secret

from verify import kube
from verify.errors import VerifyError
from verify.kube import Kube, Refused, Subject

POD = Pod(metadata=ObjectMeta(name="a", namespace="b"))


def _refused(code: int, message: str) -> ApiError:
    body = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return ApiError(response=httpx2.Response(code, json=body, request=httpx2.Request("GET", "https://api/")))


class Client:
    """A lightkube client that gives its answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*arguments: Any, **more: Any) -> Any:
            self.asked.append((name, {"first": arguments[0], **more}))
            found = self.answers.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "PAUSES", (0, 0))


def _kube(client: Client) -> Kube:
    return Kube(cast(lightkube.Client, client))


BROKEN = httpx2.ReadError("[SSL: WRONG_VERSION_NUMBER] wrong version number")
UNSENT = httpx2.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number")


def test_a_connection_that_breaks_is_made_again() -> None:
    client = Client(BROKEN, UNSENT, POD)
    assert _kube(client).pod("b", "a") is POD
    assert len(client.asked) == 3


def test_not_for_ever() -> None:
    with pytest.raises(VerifyError, match=r"cannot get pod b/a: .*WRONG_VERSION_NUMBER"):
        _kube(Client(BROKEN, BROKEN, BROKEN)).pod("b", "a")


def test_what_takes_too_long_is_not_asked_again() -> None:
    client = Client(httpx2.ReadTimeout("timed out"))
    with pytest.raises(VerifyError, match="cannot get pod b/a: timed out"):
        _kube(client).pod("b", "a")
    assert len(client.asked) == 1


def test_a_command_that_does_not_end_is_an_error() -> None:
    with pytest.raises(VerifyError, match="cannot run sleep in pod b/a: it did not end in time"):
        _kube(Client(TimeoutError())).run("b", "a", "probe", ["sleep", "60"], timeout=1)


@pytest.mark.parametrize(
    ("broken", "said"), [(WebSocketNetworkError(), "WebSocketNetworkError"), (WebSocketDisconnect(1006), "1006")]
)
def test_a_command_whose_connection_breaks_is_run_again(broken: Exception, said: str) -> None:
    done = SimpleNamespace(exit_code=0, stdout=b"out", stderr=b"")
    client = Client(broken, done)
    assert _kube(client).run("b", "a", "probe", ["true"], timeout=1).stdout == "out"
    with pytest.raises(VerifyError, match=f"cannot run true in pod b/a: {said}"):
        _kube(Client(broken, broken, broken)).run("b", "a", "probe", ["true"], timeout=1)


def test_nothing_is_created_twice() -> None:
    _kube(Client(UNSENT, None)).create(POD)
    client = Client(BROKEN)
    with pytest.raises(VerifyError, match="cannot create Pod/b/a"):
        _kube(client).create(POD)
    assert len(client.asked) == 1


def test_an_error_does_not_show_what_was_to_be_created() -> None:
    secret = Secret(metadata=ObjectMeta(name="key", namespace="b"), stringData={"key": "not-a-real-key"})
    with pytest.raises(Refused) as raised:
        _kube(Client(_refused(403, "forbidden"))).create(secret)
    assert str(raised.value) == "cannot create Secret/b/key: forbidden"


def test_what_exists_or_is_gone_may_be_fine() -> None:
    _kube(Client(_refused(409, "exists"))).create(POD, exists_ok=True)
    with pytest.raises(Refused, match="exists"):
        _kube(Client(_refused(409, "exists"))).create(POD)
    _kube(Client(_refused(404, "gone"))).delete(Pod, "b", "a")
    _kube(Client(_refused(404, "gone"))).delete_namespace("b")
    assert _kube(Client(_refused(404, "gone"))).log("b", "a", "c", 5) == []


@pytest.mark.parametrize(
    ("answer", "said"), [(POD, None), (_refused(403, "denied"), "denied"), (_refused(422, "invalid"), "invalid")]
)
def test_a_refusal_is_asked_for_as_a_dry_run(answer: Any, said: str | None) -> None:
    client = Client(answer)
    assert _kube(client).refusal(POD) == said
    ((name, arguments),) = client.asked
    assert (name, arguments["first"], arguments["dry_run"]) == ("create", POD, True)


def test_an_api_server_that_fails_has_refused_nothing() -> None:
    with pytest.raises(VerifyError, match="cannot ask for Pod/b/a: webhook is down"):
        _kube(Client(_refused(500, "webhook is down"))).refusal(POD)


@pytest.mark.parametrize("allowed", [True, False])
def test_rights_are_those_of_user_and_groups_together(allowed: bool) -> None:
    client = Client(SubjectAccessReview(spec=cast(Any, None), status=SubjectAccessReviewStatus(allowed=allowed)))
    assert _kube(client).may(Subject("somebody", ("g",)), "create", "pods/exec.example.com", "b") is allowed
    spec = client.asked[0][1]["first"].spec
    assert (spec.user, spec.groups) == ("somebody", ["g"])
    asked = spec.resourceAttributes
    assert (asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace) == (
        *("create", "example.com", "pods", "exec", "b"),
    )


def test_a_command_reads_its_stdin() -> None:
    client = Client(SimpleNamespace(exit_code=3, stdout=b"\xff", stderr=None))
    done = _kube(client).run("b", "a", "c", ["curl"], 5, "secret")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "\ufffd", "")
    assert client.asked[0][1]["stdin"] == "secret"


def test_commands_that_end_at_once_do_not_crash_the_decoder() -> None:
    threads = """
import sys, threading
from lightkube.core.decoders import decode_status
from verify.kube import Kube

Kube(None)
sys.setswitchinterval(1e-6)
together = threading.Barrier(12)

def decode():
    together.wait()
    decode_status(b'{"status": "Success", "metadata": {}, "details": {"causes": [{"reason": "ExitCode"}]}}')

threads = [threading.Thread(target=decode) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    # In a process of its own: what is decoded for the first time there, is not the first here.
    done = subprocess.run([sys.executable, "-c", threads], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
