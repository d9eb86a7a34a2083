"""What verify makes of curl's command line and output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.verify_fakes import FakeShell, option, transfer
from verify import certificates, curl
from verify.curl import ClientCertificate, Request
from verify.errors import VerifyError
from verify.shell import Completed, Local

REQUEST = Request(url="https://www.example.com/", user_agent="test")


def test_the_command_line_verifies_and_takes_nothing_from_its_surroundings() -> None:
    command = Request(
        url="https://www.example.com/",
        user_agent="agent",
        connect_to={("www.example.com", 443): ("203.0.113.100", 31443)},
        trust=Path("/run/ca"),
        headers={"Host": "other.example.com"},
        certificate=ClientCertificate(Path("/run/certificate"), Path("/run/key")),
        follow=True,
    ).command("SEPARATOR")
    assert command[:4] == ["curl", "--disable", "--noproxy", "*"]
    assert command[-1] == "https://www.example.com/"
    text = " ".join(command)
    for part in (
        "--max-time 10",
        "--user-agent agent",
        "--connect-to www.example.com:443:203.0.113.100:31443",
        "--cacert /run/ca --capath /dev/null",
        "--header Host: other.example.com",
        "--cert /run/certificate --key /run/key",
        "--location --max-redirs 5",
    ):
        assert part in text
    assert not {"--insecure", "-k"} & set(command)


def test_without_options_none_are_given() -> None:
    command = REQUEST.command("SEPARATOR")
    assert not {"--cacert", "--cert", "--key", "--location", "--header", "--connect-to"} & set(command)


def test_a_proxy_is_asked_whatever_the_environment_says_of_proxies() -> None:
    command = Request(url="https://www.example.com/", user_agent="agent", proxy="10.2.0.9:3128").command("SEPARATOR")
    assert command[:6] == ["curl", "--disable", "--noproxy", "", "--proxy", "http://10.2.0.9:3128"]


def test_a_pinned_key_replaces_the_certificates_names() -> None:
    command = Request(url="https://192.0.2.4/", user_agent="test", pinned="abc=").command("SEPARATOR")
    assert option(command, "--pinnedpubkey") == "sha256//abc="
    assert "--insecure" in command


def test_json_is_posted() -> None:
    command = Request(url="http://a/", user_agent="test", posted='{"a": 1}', follow=True).command("SEPARATOR")
    assert option(command, "--json") == '{"a": 1}'
    # With --request curl would post again whatever the redirect's status says.
    assert "--request" not in command


def test_an_answer_is_read() -> None:
    leaf = certificates.authority(certificates.common_name("leaf")).certificate

    def answer(command: Sequence[str]) -> Completed:
        return transfer(
            command, body='{"a": 1}\n', headers={"location": ["x"]}, certificates=[leaf], local="[::1]:5", redirects=1
        )

    response = curl.send(FakeShell(answer), REQUEST)
    assert (response.exit_code, response.status, response.http_version) == (0, 200, "2")
    assert response.tls_version == "TLSv1.3"
    assert response.body == '{"a": 1}\n'
    assert response.headers == {"location": ["x"]}
    assert response.certificates == (leaf,)
    assert response.local == "[::1]:5"
    assert response.redirects == 1
    assert str(response) == "200, HTTP/2, TLSv1.3"


def test_a_failure_is_read() -> None:
    response = curl.send(FakeShell(lambda command: transfer(command, exit_code=60, error="self-signed")), REQUEST)
    assert (response.exit_code, response.status, response.tls_version) == (60, 0, None)
    assert str(response) == "exit 60 (certificate not trusted: self-signed)"


def test_real_output_of_curl_is_read() -> None:
    """As curl 7.88 wrote it against Envoy; the certificates left out."""
    stdout = """[{"id":1,"name":"Elinor Glasses"}]
SEPARATOR
{"transfer": {"certs":"","content_type":"text/plain","errormsg":null,"exitcode":0,"filename_effective":null,\
"http_code":200,"http_version":"2","local_ip":"127.0.0.1","local_port":48410,"num_redirects":0,"redirect_url":null,\
"response_code":200,"scheme":"HTTPS","url_effective":"https://webapp.istioinaction.io/p"}, "headers": \
{"content-length":["34"],
"server":["envoy"]
}}"""
    stderr = (
        "*  CAfile: root.pem\n* SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384\n* ALPN: server accepted h2\n"
    )
    response = curl.parse(Completed(0, stdout, stderr), "\nSEPARATOR\n")
    assert response.body == '[{"id":1,"name":"Elinor Glasses"}]'
    assert (response.status, response.http_version, response.tls_version) == (200, "2", "TLSv1.3")
    assert response.local == "127.0.0.1:48410"


def test_a_curl_that_does_not_start_is_an_error() -> None:
    with pytest.raises(VerifyError, match=r"no transfer \(exit 2\): curl: option --x: is unknown"):
        curl.parse(Completed(2, "", "curl: option --x: is unknown\n"), "SEPARATOR")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (Completed(0, "curl 7.74.0 (x86_64)", ""), r"client 'far': curl 7\.74\.0 is too old, 7\.88 or later is needed"),
        (Completed(127, "", "nsenter: failed"), r"client 'far': `curl --version` failed \(exit 127\): nsenter: failed"),
    ],
)
def test_a_curl_that_cannot_do_it_is_an_error(said: Completed, complaint: str) -> None:
    with pytest.raises(VerifyError, match=complaint):
        curl.check_version(FakeShell(lambda command: said, name="far"))


def test_a_new_enough_curl_is_fine() -> None:
    curl.check_version(FakeShell(lambda command: Completed(0, "curl 8.16.0 (x86_64)", "")))


def test_a_client_runs_commands_behind_its_prefix() -> None:
    done = Local("here", ("sh", "-c", 'echo "$@"; echo bad >&2; exit 3', "sh")).run(["one", "two"], timeout=10)
    assert done == Completed(3, "one two\n", "bad\n")


def test_a_client_that_cannot_run_anything_says_so() -> None:
    with pytest.raises(VerifyError, match=r"client 'far': cannot run /no/such/program: No such file"):
        Local("far", ("/no/such/program",)).run(["curl"], timeout=10)
    with pytest.raises(VerifyError, match=r"client 'far': sleep did not end within 0\.1 seconds"):
        Local("far").run(["sleep", "5"], timeout=0.1)


def test_what_is_secret_goes_by_stdin() -> None:
    request = Request(url="https://a.example/", user_agent="x", secret_headers={"Authorization": 'Bearer a"b\\c'})
    command = request.command("sep")
    assert "Bearer" not in " ".join(command)
    assert option(command, "--config") == "-"
    assert request.stdin == 'header = "Authorization: Bearer a\\"b\\\\c"\n'


def test_nothing_is_secret_as_a_rule() -> None:
    request = Request(url="https://a.example/", user_agent="x")
    assert "--config" not in request.command("sep")
    assert "--insecure" not in request.command("sep")
    assert request.stdin == ""


@pytest.mark.parametrize(
    ("method", "options"), [("GET", []), ("HEAD", ["--head"]), ("OPTIONS", ["--request", "OPTIONS"])]
)
def test_other_methods(method: str, options: list[str]) -> None:
    plain = Request(url="http://a.example/", user_agent="x").command("sep")
    command = Request(url="http://a.example/", user_agent="x", method=method).command("sep")
    assert [part for part in command if part not in plain] == options


def test_the_address_that_was_tried_and_the_one_that_answered() -> None:
    shell = FakeShell(lambda command: transfer(command, exit_code=28, tried="198.51.100.10:80"))
    response = curl.send(shell, Request(url="http://a.example/", user_agent="x"))
    assert (response.tried, response.connected) == ("198.51.100.10:80", None)
    shell = FakeShell(lambda command: transfer(command, exit_code=52, tried="198.51.100.10:80"))
    assert curl.send(shell, Request(url="http://a.example/", user_agent="x")).connected == "198.51.100.10:80"
