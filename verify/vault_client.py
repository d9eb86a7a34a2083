"""What a pod asks Vault, and what Vault's audit log says of it.

A login's token and the secret's values never leave the pod, nor are they in a command line there: a script asks, and
prints status codes, Vault's own errors and names alone.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from settings.authority import VaultSettings
from verify import curl
from verify.errors import VerifyError
from verify.pods import ProbePod
from verify.workload import FILES

SECRET_KEYS = ("clientcert", "clientkey", "servercert", "PIN")
"""What the HSM's client is given, by its names in the secret."""

TAIL = 4 * 2**20
"""Bytes at the end of the audit log that the last moments' requests are surely in."""

SCRIPT = r"""
address=$1 ca=$2 jwt=$3 role=$4 path=$5 agent=$6 keys=$7
shift 7
newline='
'
ask() { # METHOD PATH AGENT, with $config, which curl reads from its stdin
  answer=$(printf '%s\n' "$config" | curl --disable --noproxy '*' --silent --max-time 10 --config - \
    --cacert "$ca" --capath /dev/null --user-agent "$3" --request "$1" \
    --write-out '\n%{http_code} %{errormsg}' "$address/v1/$2" 2> /dev/null)
  code=$?
  last=${answer##*"$newline"}
  status=${last%% *}
  error=${last#* }
  body=${answer%"$newline"*}
  body=${body%"$newline"}
}
value() { # NAME of a text or a number in $body
  rest=${body#*\"$1\":}
  rest=${rest#\"}
  printf %s "${rest%%[\",\}]*}"
}
tell() { # TEXT, if all went well
  case $status in
    2*) printf '%s %s %s\n' "$code" "$status" "$1" ;;
    000) printf '%s 0 %s\n' "$code" "$error" ;;
    *) printf '%s %s %s\n' "$code" "$status" "$body" ;;
  esac
}
config="data = \"{\\\"role\\\":\\\"$role\\\",\\\"jwt\\\":\\\"$(cat "$jwt")\\\"}\""
ask POST "auth/$path/login" "$agent"
case $status in 200) ;; *) tell ''; exit ;; esac
token=$(value client_token)
policies=${body#*\"policies\":[}
policies=${policies%%]*}
body=${body#*\"auth\":}
account=$(value service_account_namespace)/$(value service_account_name)
tell "{\"policies\":[$policies],\"seconds\":$(value lease_duration),\"account\":\"$account\"}"
while [ $# -ge 3 ]; do
  config="header = \"X-Vault-Token: $token\""
  case $1 in GET) ;; *) config="$config${newline}data = \"{}\"" ;; esac
  ask "$@"
  present=
  for key in $keys; do
    case $body in *\"$key\":\"[!\"]*) present="$present $key" ;; esac
  done
  tell "${present# }"
  shift 3
done
config="header = \"X-Vault-Token: $token\"${newline}data = \"{}\""
ask POST auth/token/revoke-self meshgate-verify
"""
"""Logs in, asks (METHOD PATH AGENT, ...) and gives the token back; a line for the login and for each question. A
question that is no GET has an empty object as its body, with which nothing can be written."""


@dataclass(frozen=True)
class Reply:
    """What came of one request."""

    exit_code: int
    """curl's."""

    status: int
    """HTTP status code; 0 when there was no response."""

    said: str
    """Of a success what the script tells of it, else Vault's errors or curl's."""

    def __str__(self) -> str:
        if self.exit_code:
            return f"exit {self.exit_code} ({curl.MEANINGS.get(self.exit_code, 'failed')}: {self.said})"
        return f"{self.status}{f' ({self.said})' if self.status >= 400 else ''}"

    @classmethod
    def parse(cls, line: str) -> Reply:
        """Read a line of the script."""
        code, _, rest = line.partition(" ")
        status, _, said = rest.partition(" ")
        try:
            errors = json.loads(said)["errors"] if int(status) >= 400 else None
        except (ValueError, LookupError, TypeError):
            errors = None
        if errors is not None:
            said = "; ".join(" ".join(str(error).split()) for error in errors)
        return cls(int(code), int(status), said)


@dataclass(frozen=True)
class Login:
    """A login from a pod, with one of its tokens."""

    vault: VaultSettings
    pod: ProbePod
    token: str
    """Path of the token's file in the pod."""

    ca: str
    """Path of the PEM file in the pod with the CAs that it trusts."""

    mount: str
    """Of the cluster that it pretends to belong to."""

    role: str
    """Of that cluster's auth method."""

    def ask(self, agent: str, *requests: tuple[str, str, str]) -> list[Reply]:
        """The replies to the login and, if that went well, to each request (method, path, user agent)."""
        path = f"{self.mount}/hsm"
        arguments = [self.vault.address, self.ca, self.token, self.role, path, agent, " ".join(SECRET_KEYS)]
        command = ["sh", "-c", SCRIPT, "sh", *arguments, *(part for request in requests for part in request)]
        done = self.pod.run(command, timeout=curl.TIMEOUT * (len(requests) + 2) + 5)
        replies = [Reply.parse(line) for line in done.stdout.splitlines()]
        if not replies:
            said = done.stderr.strip().splitlines() or ["nothing on stderr"]
            raise VerifyError(f"pod {self.pod.name} could not ask Vault (exit {done.exit_code}): {said[-1]}")
        return replies


def put(pod: ProbePod, pem: str) -> str:
    """Path of a new file in the pod with these certificates."""
    path = f"{FILES}/{secrets.token_hex(8)}.pem"
    done = pod.run(["sh", "-c", 'printf %s "$2" > "$1"', "sh", path, pem], timeout=curl.TIMEOUT + 5)
    if done.exit_code:
        raise VerifyError(f"pod {pod.name} cannot keep a file: {done.stderr.strip()}")
    return path


@dataclass(frozen=True)
class AuditLog:
    """Vault's audit log, as far as it can be read here."""

    path: str | None

    @property
    def readable(self) -> bool:
        """Whether the settings name one."""
        return self.path is not None

    def line(self, agent: str) -> str:
        """What it says of the response to the request with that user agent; empty when nothing.

        Vault writes it before it answers, so there is nothing to wait for.
        """
        for text in reversed(self._tail()):
            if agent in text and (said := _described(text)):
                return said
        return ""

    def _tail(self) -> list[str]:
        if self.path is None:
            return []
        try:
            with Path(self.path).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL))
                return file.read().decode(errors="replace").splitlines()
        except OSError as error:
            raise VerifyError(f"meshgate:verify.vault.auditLog: cannot read {self.path}: {error.strerror}") from None


def _described(text: str) -> str:
    """A line of the log that is about a response, without what is only a hash."""
    try:
        entry: dict[str, Any] = json.loads(text)
    except ValueError:
        return ""
    if entry.get("type") != "response":
        return ""
    request = entry.get("request", {})
    who = (entry.get("auth") or {}).get("display_name")
    said = " ".join(str(entry.get("error") or "done").split())
    return (
        f"Vault's audit log: {entry.get('time')} request {request.get('id')} {request.get('operation')} "
        f"{request.get('path')}{f' by {who}' if who else ''} from {request.get('remote_address')}: {said}"
    )
