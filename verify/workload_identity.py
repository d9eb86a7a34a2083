"""Scenario `workload-identity`: workloads act as accounts of the cloud, through the mesh and past the gateway (G13;
source: Anthos Service Mesh egress gateways on GKE)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from settings import Settings
from settings.workload_identity import Workload as Identity
from verify import curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.exchange import differs, judged, kept_at_home
from verify.logs import AccessLogLine
from verify.pods import ProbePod
from verify.probe import Outcome, Probe
from verify.tenants import Tenant, tenants, trust
from verify.workload import Workload

SCENARIO = "workload-identity"
ROW = "G13"

METADATA = "metadata.google.internal"
ACCOUNT = f"http://{METADATA}/computeMetadata/v1/instance/service-accounts/default"
FLAVOR = {"Metadata-Flavor": "Google"}
STORAGE = "storage.googleapis.com"


@dataclass(frozen=True)
class StoredObject:
    """An object in a bucket, and what it says."""

    bucket: str
    name: str
    text: str

    @property
    def url(self) -> str:
        """Where storage's JSON API has its content."""
        return f"https://{STORAGE}/storage/v1/b/{quote(self.bucket, safe='')}/o/{quote(self.name, safe='')}?alt=media"


def probes(settings: Settings) -> list[Probe]:
    """The probes of every workload."""
    assert settings.workload_identity is not None
    everyone = tenants(settings.teams) if settings.teams else []
    workloads = settings.workload_identity.workloads
    return [probe for number, one in enumerate(workloads, start=1) for probe in _of(one, number, everyone)]


def _of(one: Identity, number: int, everyone: list[Tenant]) -> Iterator[Probe]:
    acting = Workload(f"acting-{number}", in_mesh=True, namespace=one.namespace, service_account=one.service_account)
    who = f"{one.namespace}/{one.service_account}"
    success = Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"the metadata server, asked by a pod of {who} whom it acts as: its account",
        attempt=partial(_acts_as, acting, who),
        workloads=(acting,),
    )
    yield success
    if stored := _stored(one):
        success = Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"{stored.name} in bucket {stored.bucket}, read by a pod of {who} with a token of its account: "
            f"'{stored.text.strip()}'",
            attempt=partial(_reads, acting, stored),
            workloads=(acting,),
        )
        yield success
        other = Workload("application", in_mesh=True, namespace=one.namespace)
        yield Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=f"the same asked by a pod of {one.namespace} with another service account: refused (401 or 403)",
            attempt=partial(_refused, other, stored),
            workloads=(other,),
            pair=success,
        )
    for tenant in everyone:
        if one.namespace not in tenant.team.namespaces:
            for host, url in ((METADATA, f"{ACCOUNT}/token"), (STORAGE, f"https://{STORAGE}/")):
                if not tenant.sees(host):
                    yield Probe(
                        row=ROW,
                        scenario=SCENARIO,
                        expected=f"{host} from {tenant}, to which it is not visible: kept by its own sidecar",
                        attempt=partial(_hidden, tenant, url),
                        workloads=(tenant.application,),
                        pair=success,
                    )


def _stored(one: Identity) -> StoredObject | None:
    if one.bucket is None or not one.bucket.objects:
        return None
    name, text = min(one.bucket.objects.items())
    return StoredObject(one.bucket.name, name, text)


def _acts_as(acting: Workload, who: str, context: Context) -> Outcome:
    right = context.contracts["workload_identity"]["accounts"][who]
    pod = context.pods.get(acting)
    response, line = _ask(pod, Request(url=f"{ACCOUNT}/email", user_agent=user_agent(ROW), headers=FLAVOR))
    # Bound directly, it has no account: the metadata server then names the pool that it belongs to.
    principal = "@" not in right
    said = response.body.strip()
    return judged(
        f"{response}, {said or 'nothing said'}",
        [
            *differs("status", response.status, 200),
            *([] if principal else differs("the account", said, right)),
            *_direct_faults(line, METADATA),
        ],
        _evidence(pod, line),
    )


def _reads(acting: Workload, stored: StoredObject, context: Context) -> Outcome:
    pod = context.pods.get(acting)
    token, response = _token(pod)
    if token is None:
        return Outcome(ok=False, observed=f"no token from the metadata server: {response}")
    response, line = _fetch(context, pod, stored, token)
    same = response.body.rstrip("\n") == stored.text.rstrip("\n")
    return judged(
        f"{response}{f', {stored.text.strip()}' if same else ''}",
        [
            *(["no answer"] if response.exit_code else differs("status", response.status, 200)),
            *([] if same else ["the content is not the settings' text"]),
            *_direct_faults(line, STORAGE),
        ],
        _evidence(pod, line),
    )


def _refused(other: Workload, stored: StoredObject, context: Context) -> Outcome:
    """The metadata server gives it no token, or one that storage does not let read."""
    pod = context.pods.get(other)
    token, response = _token(pod)
    by = "the metadata server"
    line = None
    if token is not None:
        by = "storage"
        response, line = _fetch(context, pod, stored, token)
    ok = not response.exit_code and response.status in (401, 403)
    return Outcome(ok=ok, observed=f"{response} of {by}", evidence=_evidence(pod, line) or f"{by}: {response.status}")


def _hidden(tenant: Tenant, url: str, context: Context) -> Outcome:
    request = Request(url=url, user_agent="", headers=FLAVOR, trust=trust(context))
    return kept_at_home(context, ROW, context.pods.get(tenant.application), request)


def _token(pod: ProbePod) -> tuple[str | None, Response]:
    """An access token of whom the pod acts as; it is never shown."""
    response = curl.send(pod, Request(url=f"{ACCOUNT}/token", user_agent=user_agent(ROW), headers=FLAVOR))
    try:
        return str(json.loads(response.body)["access_token"]), response
    except (ValueError, LookupError, TypeError):
        return None, response


def _fetch(context: Context, pod: ProbePod, stored: StoredObject, token: str) -> tuple[Response, AccessLogLine | None]:
    return _ask(
        pod,
        Request(
            url=stored.url,
            user_agent=user_agent(ROW),
            trust=trust(context),
            secret_headers={"Authorization": f"Bearer {token}"},
        ),
    )


def _ask(pod: ProbePod, request: Request) -> tuple[Response, AccessLogLine | None]:
    """The response, and what the pod's sidecar says; inside TLS it sees no user agent."""
    start = time.monotonic()
    response = curl.send(pod, request)
    line = pod.proxies.line(
        lambda line: line.user_agent == request.user_agent or line.downstream_remote_address == response.local, start
    )
    return response, line


def _direct_faults(line: AccessLogLine | None, host: str) -> list[str]:
    """Whether it went to the host itself, and not by the gateway."""
    if line is None:
        return ["its sidecar does not log it"]
    return differs("where its sidecar sent it", line.upstream and line.upstream.host, host)


def _evidence(pod: ProbePod, line: AccessLogLine | None) -> str:
    return f"sidecar of {pod.name}: {line}" if line else ""
