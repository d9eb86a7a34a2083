"""The GKE metadata server: tells a workload which account it acts as, and hands out the account's tokens.

Answers and refusals follow https://cloud.google.com/kubernetes-engine/docs/concepts/workload-identity and what the
real server says, as far as a workload needs it for Google's client libraries.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    workload = None
    # The two headers keep an attacker from having some program fetch a token for him: a browser or a plain fetch
    # lacks the one, a proxy adds the other.
    if request.headers.get(FLAVOR.lower()) != "Google":
        found = Answer(403, f'Missing required header "{FLAVOR}": "Google"\n')
    elif "x-forwarded-for" in request.headers:
        found = Answer(403, "Requests with the header X-Forwarded-For are refused\n")
    elif (workload := find(request.client)) is None:
        found = Answer(403, f"No workload has the address {request.client}\n")
    else:
        found = _look_up(_tree(project, tokens, workload), request)
    return replace(found, headers=HEADERS, caller=_identity(project, workload) if workload else "")


def _identity(project: Project, workload: Workload) -> str:
    """The workload itself, as IAM's policies name it."""
    return f"{project.pool}[{workload.namespace}/{workload.service_account}]"


def _tree(project: Project, tokens: Tokens, workload: Workload) -> Tree:
    # Without an annotation GKE shows the pool alone, whichever workload asks.
    email = workload.account or project.pool
    account: Tree = {
        "aliases": ["default"],
        "email": email,
        "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
        "token": lambda: _token(project, tokens, workload),
    }
    return {
        "computeMetadata": {
            "v1": {
                "instance": {"service-accounts": {"default": account, email: account}},
                "project": {"numeric-project-id": project.number, "project-id": project.id},
            }
        }
    }


def _token(project: Project, tokens: Tokens, workload: Workload) -> Answer:
    account = _identity(project, workload)
    if workload.account:
        if not allows(project.accounts.get(workload.account, {}), account, "iam.serviceAccounts.getAccessToken"):
            return Answer(403, DENIED)
        account = workload.account
    content = {"access_token": tokens.issue(account), "expires_in": LIFETIME - 1, "token_type": "Bearer"}
    return Answer(200, json.dumps(content), "application/json")


def _look_up(tree: Tree, request: Request) -> Answer:
    node: Tree | list[str] | str | Callable[[], Answer] = tree
    for part in filter(None, request.path.split("/")):
        if not isinstance(node, Mapping) or part not in node:
            return Answer(404, f"{request.path} not found\n")
        node = node[part]
    if callable(node):
        return node()
    if request.query.get("recursive", "").lower() == "true":
        return Answer(200, json.dumps(_values(node)), "application/json")
    if isinstance(node, str):
        return Answer(200, node, "application/text")
    names = (f"{name}/" if isinstance(node, Mapping) and isinstance(node[name], Mapping) else name for name in node)
    return Answer(200, "".join(f"{name}\n" for name in names), "application/text")


def _values(node: object) -> object:
    """A part of the tree without what is made when asked for."""
    if isinstance(node, Mapping):
        return {name: _values(below) for name, below in node.items() if not callable(below)}
    return node
