"""Scenario `ingress`: TLS at the mesh's edge, rows T1 to T7 (source: Istio ingress gateway, part 2)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from functools import partial

from cryptography import x509

from settings import Settings
from verify import certificates, curl
from verify.context import Context, user_agent
from verify.curl import Request, Response
from verify.envoy import Watch
from verify.logs import NO_FILTER_CHAIN, AccessLogLine
from verify.probe import Outcome, Probe
from verify.site import HTTP, HTTPS, Site, stranger, trust_file

SCENARIO = "ingress"

NO_CLIENT_CERTIFICATE = "ssl.fail_verify_no_cert"
BAD_CLIENT_CERTIFICATE = "ssl.fail_verify_error"
"""Counters of the gateway's listener: such a connection never becomes a request, so no access log has it."""

NO_SERVER = "no_filter_chain_match"
"""Counts what the listener's access log has as filter_chain_not_found."""

REFUSED_CLIENT = (curl.TLS_FAILED, curl.READ_FAILED, curl.WRITE_FAILED, curl.HTTP2_FAILED)
"""In TLS 1.3 a client is done with the handshake before the server has seen its certificate. It learns of the refusal
when it reads (56), or, when the connection is closed sooner than that, when it writes (55; 16 with HTTP/2)."""

CLOSED = (curl.EMPTY, curl.READ_FAILED, curl.WRITE_FAILED)
"""A balancer of one's own has taken a connection when it learns that the gateway does not, and closes it."""

COOLSTORE_PATHS = ("/api/catalog", "/items")
FIRST_ITEM = "Elinor Glasses"
"""The source document's."""


def probes(settings: Settings) -> list[Probe]:
    """The probes for every gateway and host of the settings: by row, within a row by gateway."""
    ingress = settings.ingress
    assert ingress is not None
    every = [
        probe
        # Pulumi hands a mapping on in the order of its keys, whatever the file's was: ids must not depend on it.
        for name, gateway in sorted(ingress.gateways.items())
        for probe in _gateway([Site(ingress, name, host) for host in gateway.hosts])
    ]
    return sorted(every, key=lambda probe: probe.row)


def _gateway(sites: list[Site]) -> Iterator[Probe]:
    success = {site: _success("T6" if site.mutual else "T3", site) for site in sites}
    first = sites[0]
    for trusted in (True, False):
        yield Probe(
            row="T1",
            scenario=SCENARIO,
            expected=f"https to the address of gateway {first.gateway}, no SNI, CA {'' if trusted else 'not '}trusted: "
            "exit 35",
            attempt=partial(_without_sni, first, trusted),
            pair=success[first],
        )
    for site in sites:
        yield Probe(
            row="T2",
            scenario=SCENARIO,
            expected=f"{site}, its CA not trusted: exit 60",
            attempt=partial(_not_trusted, "T2", site, None),
            pair=success[site],
        )
        yield success[site]
        yield from _http(site, success[site])
        if site.mutual:
            for row, how, forged in (
                ("T5", "without client certificate", False),
                ("T6", "with a client certificate of another CA", True),
            ):
                yield Probe(
                    row=row,
                    scenario=SCENARIO,
                    expected=f"{site} {how}: handshake or read fails (exit 35, 56; write before it: 55, 16)",
                    attempt=partial(_refused_client, row, site, forged),
                    pair=success[site],
                )
    if len({site.authority for site in sites} - {None}) > 1:
        yield from _several_hosts([site for site in sites if site.authority is not None])


def _success(row: str, site: Site) -> Probe:
    client = " with a client certificate" if site.mutual else ""
    item = _right_item(site)
    return Probe(
        row=row,
        scenario=SCENARIO,
        expected=f"{site}{client}: 200, HTTP/2, TLS 1.3, leaf issued by an intermediate of its CA"
        + (f", first item {item}" if item else ""),
        attempt=partial(_answered, row, site),
    )


def _http(site: Site, https: Probe) -> Iterator[Probe]:
    http = partial(Probe, row="T4", scenario=SCENARIO)
    match site.host.http:
        case "serve":
            yield http(expected=f"http://{site}: 200", attempt=partial(_http_served, site))
        case "redirect":
            yield http(
                expected=f"http://{site}: 301, Location {site.https_url}", attempt=partial(_http_redirected, site)
            )
            yield http(
                expected=f"http://{site}, followed: one redirect, then 200", attempt=partial(_http_followed, site)
            )
        case "none":
            yield http(
                expected=f"http://{site}: closed (no connection, or 404)",
                attempt=partial(_http_closed, site),
                pair=https,
            )


def _several_hosts(sites: list[Site]) -> Iterator[Probe]:
    success = {site: _success("T7", site) for site in sites}
    yield from success.values()
    for site in sites:
        other = next(other for other in sites if other.authority != site.authority)
        yield Probe(
            row="T7",
            scenario=SCENARIO,
            expected=f"{site}, only the CA of {other.host.host} trusted: exit 60",
            attempt=partial(_not_trusted, "T7", site, other),
            pair=success[site],
        )
    yield Probe(
        row="T7",
        scenario=SCENARIO,
        expected=f"https to gateway {sites[0].gateway} with an unknown SNI: reset (exit 35)",
        attempt=partial(_unknown_sni, sites[0]),
        pair=success[sites[0]],
    )


def _answered(row: str, site: Site, context: Context) -> Outcome:
    if why := _no_client(site):
        return Outcome(ok=None, observed=why)
    root = site.root(context)
    agent, start = user_agent(row), time.monotonic()
    response = site.ask(context, site.https_url, agent, trust=root, certificate=site.client_certificate(context))
    if response.exit_code:
        return Outcome(ok=False, observed=f"{response}{_trust_hint(site, response)}")
    line = _line(context, site, agent, start)
    item = _first_item(response) if _right_item(site) else None
    return _judged(
        site,
        ", ".join(
            [str(response), certificates.described(response.certificates), *([f"first item {item}"] if item else [])]
        ),
        [
            *_differs("status", response.status, 200),
            *_differs("HTTP version", response.http_version, "2"),
            *_differs("TLS version", response.tls_version, "TLSv1.3"),
            *certificates.chain_faults(
                response.certificates, None if root is None else x509.load_pem_x509_certificate(root.encode())
            ),
            *_differs("first item", item, _right_item(site)),
            *_line_faults(site, line, server_name=site.host.host),
        ],
        line,
    )


def _without_sni(site: Site, trusted: bool, context: Context) -> Outcome:
    # curl sends a server name for names only: an IP address in the URL sends none.
    request = Request(
        url=f"https://{site.ip_address(context)}:{site.address(context, HTTPS)[1]}{site.host.path}",
        user_agent=user_agent("T1"),
        headers={"Host": site.host.host},
        trust=trust_file(context, site.root(context) if trusted else stranger()),
    )
    return _no_server(context, site, request, server_name="-")


def _unknown_sni(site: Site, context: Context) -> Outcome:
    name = f"unknown-{secrets.token_hex(6)}.invalid"
    request = Request(
        url=f"https://{name}/",
        user_agent=user_agent("T7"),
        connect_to={(name, HTTPS): site.address(context, HTTPS)},
        trust=trust_file(context, site.root(context)),
    )
    return _no_server(context, site, request, server_name=name)


def _no_server(context: Context, site: Site, request: Request, server_name: str) -> Outcome:
    """A handshake for whose server name, as the access log has it, the gateway has no server."""
    proxies = site.proxies(context)
    start = time.monotonic()
    with proxies.counting(NO_SERVER) as watch:
        response = curl.send(context.clients[0], request)
    if response.exit_code != curl.TLS_FAILED:
        return Outcome(ok=False, observed=str(response))

    def this_one(line: AccessLogLine) -> bool:
        if line.response_code_details != NO_FILTER_CHAIN or line.requested_server_name != server_name:
            return False
        # A name made up for this attempt tells it from others; without a name, the client's address does.
        return server_name != "-" or line.downstream_remote_address == response.local

    if line := proxies.line(this_one, start):
        return Outcome(ok=True, observed=str(response), evidence=_said(site, line), proven=True)
    # Something between may have hidden the client's address. The counter does not tell whom it counted.
    if watch.rise > 0:
        return Outcome(ok=True, observed=str(response), evidence=_counted(site, NO_SERVER, watch))
    return Outcome(ok=False, observed=f"{response}: neither the gateway's access log nor its counter has it")


def _not_trusted(row: str, site: Site, other: Site | None, context: Context) -> Outcome:
    """Trusting only the CA of `other`; one made up when None."""
    trust = stranger() if other is None else other.root(context)
    response = site.ask(context, site.https_url, user_agent(row), trust=trust)
    return Outcome(
        ok=response.exit_code == curl.NOT_TRUSTED, observed=str(response), evidence=f"the client: {response.error}"
    )


def _refused_client(row: str, site: Site, forged: bool, context: Context) -> Outcome:
    certificate = site.forged_certificate(context) if forged else None
    counter = BAD_CLIENT_CERTIFICATE if forged else NO_CLIENT_CERTIFICATE
    with site.proxies(context).counting(counter) as watch:
        response = site.ask(context, site.https_url, user_agent(row), trust=site.root(context), certificate=certificate)
    if response.exit_code not in REFUSED_CLIENT:
        return Outcome(ok=False, observed=f"{response}{_trust_hint(site, response)}")
    if watch.rise < 1:
        return Outcome(ok=False, observed=f"{response}: the gateway's counter {counter} did not rise")
    return Outcome(ok=True, observed=str(response), evidence=_counted(site, counter, watch), proven=True)


def _http_served(site: Site, context: Context) -> Outcome:
    agent, start = user_agent("T4"), time.monotonic()
    response = site.ask(context, site.http_url, agent)
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    line = _line(context, site, agent, start)
    item = _first_item(response) if _right_item(site) else None
    return _judged(
        site,
        str(response),
        [
            *_differs("status", response.status, 200),
            *_differs("first item", item, _right_item(site)),
            *_line_faults(site, line, server_name="-"),
        ],
        line,
    )


def _http_redirected(site: Site, context: Context) -> Outcome:
    agent, start = user_agent("T4"), time.monotonic()
    response = site.ask(context, site.http_url, agent)
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    line = _line(context, site, agent, start)
    locations = response.headers.get("location", [])
    return _judged(
        site,
        f"{response}, Location {', '.join(locations) or 'missing'}",
        [
            *_differs("status", response.status, 301),
            *_differs("Location", locations, [site.https_url]),
            *([] if line else [NOT_LOGGED]),
        ],
        line,
    )


def _http_followed(site: Site, context: Context) -> Outcome:
    if why := _no_client(site):
        return Outcome(ok=None, observed=why)
    agent, start = user_agent("T4"), time.monotonic()
    response = site.ask(
        context,
        site.http_url,
        agent,
        trust=site.root(context),
        certificate=site.client_certificate(context),
        follow=True,
    )
    if response.exit_code:
        return Outcome(ok=False, observed=f"{response}{_trust_hint(site, response)}")
    line = _line(context, site, agent, start, server_name=site.host.host)
    return _judged(
        site,
        f"{response.redirects} redirect to {response.url}, then {response}",
        [
            *_differs("number of redirects", response.redirects, 1),
            *_differs("last URL", response.url, site.https_url),
            *_differs("status", response.status, 200),
            *_line_faults(site, line, server_name=site.host.host),
        ],
        line,
    )


def _http_closed(site: Site, context: Context) -> Outcome:
    agent, start = user_agent("T4"), time.monotonic()
    response = site.ask(context, site.http_url, agent)
    if response.exit_code == curl.REFUSED:
        return Outcome(ok=True, observed=str(response), evidence=f"the client: {response.error}")
    if response.exit_code in CLOSED and site.is_balanced and HTTP not in (listening := site.proxies(context).ports()):
        ports = ", ".join(map(str, sorted(listening)))
        return Outcome(
            ok=True, observed=str(response), evidence=f"gateway {site.gateway} listens on {ports}", proven=True
        )
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    line = _line(context, site, agent, start)
    return _judged(
        site,
        str(response),
        [
            *_differs("status", response.status, 404),
            *([] if line and line.response_flags == "NR" else ["the gateway's access log does not say NR (no route)"]),
        ],
        line,
    )


NOT_LOGGED = "the gateway's access log does not have the request"


def _line(
    context: Context, site: Site, agent: str, start: float, server_name: str | None = None
) -> AccessLogLine | None:
    """The line of the request with that User-Agent (and server name, where redirects make several)."""
    return site.proxies(context).line(
        lambda line: line.user_agent == agent and server_name in (None, line.requested_server_name), start
    )


def _said(site: Site, line: AccessLogLine | None) -> str:
    return f"gateway {site.gateway}: {line}" if line else ""


def _counted(site: Site, counter: str, watch: Watch) -> str:
    return f"gateway {site.gateway}: counter {counter} rose by {watch.rise}"


def _judged(site: Site, observed: str, faults: list[str], line: AccessLogLine | None) -> Outcome:
    evidence = _said(site, line)
    if faults:
        return Outcome(ok=False, observed=f"{observed}: {'; '.join(faults)}", evidence=evidence)
    return Outcome(ok=True, observed=observed, evidence=evidence, proven=True)


def _differs(what: str, found: object, right: object) -> list[str]:
    return [] if found == right else [f"{what} is {found}, not {right}"]


def _line_faults(site: Site, line: AccessLogLine | None, *, server_name: str) -> list[str]:
    if line is None:
        return [NOT_LOGGED]
    backend = site.host.backend
    return [
        *_differs("logged server name", line.requested_server_name, server_name),
        *_differs("logged backend", line.upstream_cluster, f"outbound|{backend.port}||{backend.service}"),
    ]


def _right_item(site: Site) -> str | None:
    """What the answer begins with, where the backend is known."""
    coolstore = site.ingress.coolstore
    ours = coolstore is not None and site.host.backend.service.split(".")[1] == coolstore.namespace
    return FIRST_ITEM if ours and site.host.path in COOLSTORE_PATHS else None


def _first_item(response: Response) -> str | None:
    try:
        return str(json.loads(response.body)[0]["name"])
    except (ValueError, LookupError, TypeError):
        return None


def _no_client(site: Site) -> str | None:
    if not site.mutual or site.client is not None:
        return None
    return "nothing to ask with: meshgate:ingress.clients has no certificate of the CA that the gateway accepts"


def _trust_hint(site: Site, response: Response) -> str:
    if response.exit_code != curl.NOT_TRUSTED or site.authority is not None:
        return ""
    return (
        f"; certificate {site.host.tls.credential} is not issued here, so the client's own CAs are used: "
        "set CURL_CA_BUNDLE to the CA's file if they lack it"
    )
