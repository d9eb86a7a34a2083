"""The GKE metadata server: tells a workload which account it acts as, and hands out the account's tokens.

Answers and refusals follow https://cloud.google.com/kubernetes-engine/docs/concepts/workload-identity and what the
real server says, as far as a workload needs it for Google's client libraries.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Union

from lab.google.iam import LIFETIME, Project, Tokens, allows
from lab.web import Answer, Request

ANNOTATION = "iam.gke.io/gcp-service-account"
FLAVOR = "Metadata-Flavor"
HEADERS = {FLAVOR: "Google", "Server": "GKE Metadata Server"}
DENIED = """\
Unable to generate access token; IAM returned 403 Forbidden: Permission 'iam.serviceAccounts.getAccessToken' denied on \
resource (or it may not exist).
This error could be caused by a missing IAM policy binding on the target IAM service account.
For more information, refer to the Workload Identity documentation:
\thttps://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity#authenticating_to

"""

Tree = Mapping[str, Union["Tree", list[str], str, Callable[[], Answer]]]
"""The metadata: directories, values, and what is made when asked for."""


@dataclass(frozen=True)
class Workload:
    """A pod's Kubernetes ServiceAccount."""

    namespace: str
    service_account: str
    account: str
    """The Google account that its annotation names; empty without one."""


def answer(project: Project, tokens: Tokens, find: Callable[[str], Workload | None], request: Request) -> Answer:
    """The answer to one request; `find` tells whose the caller's address is."""
    # Both keep an attacker from having some program fetch a token for him: a browser or a plain fetch lacks the one
    # header, a proxy adds the other.
    if request.headers.get(FLAVOR.lower()) != "Google":
        return _text(403, f'Missing required header "{FLAVOR}": "Google"\n')
    if "x-forwarded-for" in request.headers:
        return _text(403, "Requests with the header X-Forwarded-For are refused\n")
    workload = find(request.client)
    if workload is None:
        return _text(403, f"No workload has the address {request.client}\n")
    return _look_up(_tree(project, tokens, workload), request, _account(project, workload))


def _account(project: Project, workload: Workload) -> str:
    """Whom the workload acts as: the annotated account or, without one, itself."""
    return workload.account or _identity(project, workload)


def _identity(project: Project, workload: Workload) -> str:
    return f"{project.pool}[{workload.namespace}/{workload.service_account}]"


def _tree(project: Project, tokens: Tokens, workload: Workload) -> Tree:
    def token() -> Answer:
        policy = project.accounts.get(workload.account, {})
        if workload.account and not allows(policy, _identity(project, workload), "iam.serviceAccounts.getAccessToken"):
            return _text(403, DENIED)
        content = {
            "access_token": tokens.issue(_account(project, workload)),
            "expires_in": LIFETIME - 1,
            "token_type": "Bearer",
        }
        return Answer(200, json.dumps(content), "application/json")

    # Without an annotation GKE shows the pool alone, whichever workload asks.
    email = workload.account or project.pool
    account: Tree = {
        "aliases": ["default"],
        "email": email,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        "token": token,
    }
    return {
        "computeMetadata": {
            "v1": {
                "instance": {"service-accounts": {"default": account, email: account}},
                "project": {"numeric-project-id": project.number, "project-id": project.id},
            }
        }
    }


def _look_up(tree: Tree, request: Request, caller: str) -> Answer:
    node: Tree | list[str] | str | Callable[[], Answer] = tree
    for part in filter(None, request.path.split("/")):
        if not isinstance(node, Mapping) or part not in node:
            return _text(404, f"{request.path} not found\n", caller)
        node = node[part]
    if callable(node):
        made = node()
        return Answer(made.status, made.body, made.content_type, HEADERS, caller)
    if request.query.get("recursive", "").lower() == "true":
        return Answer(200, json.dumps(_plain(node)), "application/json", HEADERS, caller)
    if isinstance(node, Mapping):
        lines = [f"{name}/" if isinstance(below, Mapping) else name for name, below in node.items()]
    else:
        lines = node if isinstance(node, list) else []
    body = node if isinstance(node, str) else "".join(f"{line}\n" for line in lines)
    return Answer(200, body, "application/text", HEADERS, caller)


def _plain(node: object) -> object:
    """A part of the tree without what is made when asked for."""
    if isinstance(node, Mapping):
        return {name: _plain(below) for name, below in node.items() if not callable(below)}
    return node


def _text(status: int, body: str, caller: str = "") -> Answer:
    return Answer(status, body, headers=HEADERS, caller=caller)
