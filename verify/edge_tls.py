"""What a gateway behind a network load balancer answers to somebody who is let in: rows E2 (TLS at the gateway), E3
(its redirects), E4 and E5 (TLS at the balancer); for gateways with rules or ranges, the successes of E6 to E9."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from verify import certificates, curl
from verify.context import Context
from verify.curl import MAX_REDIRECTS, Response
from verify.edge_site import (
    NOT_LOGGED,
    PORTS,
    SCENARIO,
    Attempt,
    Caller,
    Scheme,
    Site,
    by_admitted,
)
from verify.exchange import differs, judged
from verify.logs import NO_FILTER_CHAIN
from verify.probe import Outcome, Probe

BROKEN_OFF = (curl.TLS_FAILED, curl.EMPTY, curl.READ_FAILED, curl.WRITE_FAILED, curl.HTTP2_FAILED)
"""How https fails when the balancer has ended TLS and finds nobody behind it to send to."""

KEEPS_METHOD = (307, 308)
NOT_DESCRIBING = (404, 405)
"""How the image of flask-echo answers what is not posted to /echo; the lab's stand-in describes such a request."""

Successes = Mapping[Scheme, Probe]


def row(site: Site) -> str:
    """The row of a host's own answers."""
    if site.has_rules:
        return ("E8" if site.by_header else "E7") if site.sees_address else "E6"
    if site.has_ranges:
        return "E9"
    if site.balancer_ends_tls:
        return "E4" if site.shares_port else "E5"
    return "E2" if site.host.redirect == "none" else "E3"


def answers(site: Site) -> Successes:
    """The probes of what comes back at once, by scheme."""
    http = _probe(site, _expected(site, "http"), _attempt(site, "http"))
    pair = None if site.https_served else http
    return {"http": http, "https": _probe(site, _expected(site, "https"), _attempt(site, "https"), pair)}


def probes(sites: list[Site], successes: Mapping[Site, Successes]) -> Iterator[Probe]:
    """All probes of a gateway's hosts but those of who is let in; `successes` are those of `answers`."""
    for site in sites:
        yield successes[site]["https"]
        yield successes[site]["http"]
        if not site.https_served:
            continue
        if site.status("http") != 200 and not site.loops:
            yield from _followed(site)
        if site.is_echo and site.balancer_ends_tls:
            yield from _seen(site)
        if site.gateway.zone is not None and site.status("https") == 200:
            yield _probe(
                site,
                f"{site.url('https')} by its own name: 200, its record leads to the balancer of gateway {site.name}",
                partial(_by_name, site),
            )
    yield from _server_names(sites[0], successes[sites[0]]["https"])


def _probe(site: Site, expected: str, attempt: Attempt, pair: Probe | None = None, of: str | None = None) -> Probe:
    return Probe(
        row=of or row(site),
        scenario=SCENARIO,
        expected=expected,
        attempt=partial(by_admitted, site, attempt),
        pair=pair,
    )


def _expected(site: Site, scheme: Scheme) -> str:
    where = site.at(scheme)
    if site.loops:
        return f"{where}: {site.status(scheme)} to https, for ever (exit {curl.TOO_MANY_REDIRECTS}): both come by http"
    if scheme == "http":
        status = site.status("http")
        return f"{where}: 200" if status == 200 else f"{where}: {status}, Location {site.url('https')}"
    if not site.https_served:
        return f"{where}: fails, nobody listens where the balancer sends it"
    certificate = "the balancer's certificate" if site.balancer_ends_tls else "HTTP/2, the gateway's certificate"
    port = ", by TLS to the gateway" if site.gateway.tls.credential and site.balancer_ends_tls else ""
    return f"{where}: 200, {certificate}{port}"


def _attempt(site: Site, scheme: Scheme) -> Attempt:
    if site.loops:
        return partial(_looping, site, scheme)
    if scheme == "https" and not site.https_served:
        return partial(_unserved, site)
    return partial(served if site.status(scheme) == 200 else _redirected, site, scheme)


def _followed(site: Site) -> Iterator[Probe]:
    status = site.status("http")
    yield _probe(site, f"{site.at('http')}, followed: redirected once, then 200", partial(_followed_once, site))
    if not site.gateway.num_trusted_proxies:
        yield _probe(
            site,
            f"{site.at('http')} with the header X-Forwarded-Proto: https: {status} all the same",
            partial(_redirected, site, "http", headers={"X-Forwarded-Proto": "https"}),
        )
    if site.is_echo:
        kept = "is posted again" if status in KEEPS_METHOD else "becomes a GET: what was posted is lost"
        yield _probe(site, f"{site.at('http')}, posted and followed: {status}, so it {kept}", partial(_posted, site))


def _seen(site: Site) -> Iterator[Probe]:
    for scheme in PORTS:
        if site.status(scheme) == 200:
            yield _probe(
                site,
                f"{site.at(scheme)}: the application sees its host, scheme {scheme} (X-Forwarded-Proto"
                f"{'' if site.gateway.num_trusted_proxies else ', whatever the client says'}), the client's headers",
                partial(_seen_by_application, site, scheme),
            )


def _server_names(site: Site, success: Probe) -> Iterator[Probe]:
    if site.balancer_ends_tls:
        return
    if not site.any_server_name:
        yield _probe(
            site,
            f"https to gateway {site.name} with an unknown SNI: reset (exit {curl.TLS_FAILED})",
            partial(_unknown_name, site),
            pair=success,
            of="E2",
        )
        return
    for what, attempt in (
        ("SNI of the balancer's own name", _balancer_name),
        ("no SNI, at each address of the balancer", _no_name),
    ):
        yield _probe(
            site,
            f"{site.at('https')} by Host header only, {what}: 200, same certificate",
            partial(attempt, site),
            of="E2",
        )


# Attempts


def served(
    site: Site, scheme: Scheme, caller: Caller, context: Context, *, headers: Mapping[str, str] | None = None
) -> Outcome:
    """The backend's own answer, to a request with these headers."""
    request = replace(site.request(context, scheme, row(site)), headers=headers or {})
    asked = site.ask(context, caller, request)
    if asked.response.exit_code:
        return Outcome(ok=False, observed=str(asked.response))
    return judged(
        _with_certificate(asked.response), site.served_faults(context, scheme, request, asked), site.said(asked.line)
    )


def _redirected(
    site: Site, scheme: Scheme, caller: Caller, context: Context, *, headers: Mapping[str, str] | None = None
) -> Outcome:
    asked = site.ask(context, caller, replace(site.request(context, scheme, row(site)), headers=headers or {}))
    response = asked.response
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    locations = response.headers.get("location", [])
    return judged(
        f"{response}, Location {', '.join(locations) or 'missing'}",
        [
            *differs("status", response.status, site.status(scheme)),
            *differs("Location", locations, [site.url("https")]),
            *site.line_faults(scheme, asked),
        ],
        site.said(asked.line),
    )


def _looping(site: Site, scheme: Scheme, caller: Caller, context: Context) -> Outcome:
    once = _redirected(site, scheme, caller, context)
    if not once.ok:
        return once
    asked = site.ask(context, caller, replace(site.request(context, scheme, row(site)), follow=True))
    response = asked.response
    return judged(
        f"{once.observed}; followed: {response}, {response.redirects} redirects",
        [
            *differs("exit code", response.exit_code, curl.TOO_MANY_REDIRECTS),
            *differs("number of redirects", response.redirects, MAX_REDIRECTS),
            *site.line_faults("https", asked),
        ],
        site.said(asked.line),
    )


def _by_name(site: Site, caller: Caller, context: Context) -> Outcome:
    request = replace(site.request(context, "https", row(site)), connect_to={})
    asked = site.ask(context, caller, request)
    response = asked.response
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    place = (response.connected or "").rpartition(":")[0]
    elsewhere = place not in site.ip_addresses(context)
    return judged(
        f"{_with_certificate(response)}, at {place}",
        [
            *([f"{place} is no address of the balancer"] if elsewhere else []),
            *site.served_faults(context, "https", request, asked),
        ],
        site.said(asked.line),
    )


def _unserved(site: Site, caller: Caller, context: Context) -> Outcome:
    asked = site.ask(context, caller, site.request(context, "https", row(site)))
    if asked.response.exit_code not in BROKEN_OFF:
        return Outcome(ok=False, observed=str(asked.response))
    port, ports = site.target_port("https"), site.proxies(context).ports()
    listens = ", ".join(map(str, sorted(ports)))
    handshake = asked.response.tls_version
    return judged(
        f"{asked.response}{f', after the handshake ({handshake}) with the balancer' if handshake else ''}",
        [f"the gateway listens on {port}"] if port in ports else [],
        f"gateway {site.name} listens on {listens}, not on {port}",
    )


def _followed_once(site: Site, caller: Caller, context: Context) -> Outcome:
    # Without anything posted: what a redirect makes of that is another question.
    request = replace(site.request(context, "http", row(site)), follow=True, posted=None)
    asked = site.ask(context, caller, request)
    response = asked.response
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    observed = f"{response.redirects} redirect to {response.url}, then {_with_certificate(response)}"
    faults = [
        *differs("number of redirects", response.redirects, 1),
        *differs("last URL", response.url, site.url("https")),
    ]
    if site.is_echo and response.status in NOT_DESCRIBING:
        # The original image answers so to a GET; it is its own answer all the same.
        return judged(f"{observed} of the application, which takes only POST", faults, site.said(asked.line))
    return judged(observed, [*faults, *site.served_faults(context, "https", request, asked)], site.said(asked.line))


def _posted(site: Site, caller: Caller, context: Context) -> Outcome:
    request = replace(site.request(context, "http", row(site)), follow=True)
    asked = site.ask(context, caller, request)
    response, line = asked.response, asked.line
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    kept = site.status("http") in KEEPS_METHOD
    method = "POST" if kept else "GET"
    back = _json(response) == json.loads(request.posted or "")
    return judged(
        f"{response.redirects} redirect, then {response}, what was posted {'came back' if back else 'is lost'}",
        [
            *differs("number of redirects", response.redirects, 1),
            *differs("whether it came back", back, kept),
            *([] if line is None or f'"{method} ' in line.text else [f"the second request is no {method}"]),
            *site.line_faults("https", asked),
        ],
        site.said(line),
    )


def _seen_by_application(site: Site, scheme: Scheme, caller: Caller, context: Context) -> Outcome:
    token = secrets.token_hex(6)
    headers = {"X-Meshgate-Probe": token}
    if not site.gateway.num_trusted_proxies:
        headers["X-Forwarded-Proto"] = "http" if scheme == "https" else "https"
    request = replace(site.request(context, scheme, row(site)), posted=None, headers=headers)
    asked = site.ask(context, caller, request)
    response = asked.response
    if not response.exit_code and response.status in NOT_DESCRIBING:
        return Outcome(
            ok=None,
            observed=f"{response}: this image gives back what is posted and tells nothing of requests; the lab's "
            "stand-in does",
        )
    if response.exit_code:
        return Outcome(ok=False, observed=str(response))
    seen = _json(response)
    if not isinstance(seen, dict):
        return Outcome(ok=False, observed=f"{response}: {response.body[:80]}", evidence=site.said(asked.line))
    arrived = {str(name).lower(): value for name, value in dict(seen.get("headers") or {}).items()}
    said = {name: arrived.get(name) for name in ("x-forwarded-proto", "x-meshgate-probe")}
    return judged(
        f"{response}; the application saw {seen.get('method')} {seen.get('path')}, host {seen.get('host')}, scheme "
        f"{seen.get('scheme')}, X-Forwarded-For {arrived.get('x-forwarded-for')}",
        [
            *differs("host", seen.get("host"), site.host.host),
            *differs("scheme", seen.get("scheme"), scheme),
            *differs("headers", said, {"x-forwarded-proto": scheme, "x-meshgate-probe": token}),
            *differs("path", seen.get("path"), site.host.path),
            *site.served_faults(context, scheme, request, asked),
        ],
        site.said(asked.line),
    )


def _balancer_name(site: Site, caller: Caller, context: Context) -> Outcome:
    name, port = site.address(context, "https")
    return _by_host_header(site, name, port, name, caller, context)


def _no_name(site: Site, caller: Caller, context: Context) -> Outcome:
    _, port = site.address(context, "https")
    # curl sends a server name for names only: an IP address in the URL sends none.
    outcomes = {
        address: _by_host_header(site, address, port, "-", caller, context) for address in site.ip_addresses(context)
    }
    return Outcome(
        ok=all(outcome.ok for outcome in outcomes.values()),
        observed="; ".join(f"{address}: {outcome.observed}" for address, outcome in outcomes.items()),
        evidence="; ".join(outcome.evidence for outcome in outcomes.values()),
        proven=True,
    )


def _by_host_header(site: Site, place: str, port: int, server_name: str, caller: Caller, context: Context) -> Outcome:
    """Ask with a server name that is not the host's. The certificate cannot be checked by such a name; so it must have
    the key of the one that was checked by the right name a moment before."""
    checked = site.ask(context, caller, site.request(context, "https", "E2")).response
    if checked.exit_code or not checked.certificates:
        return Outcome(ok=False, observed=f"with the right name: {checked}")
    request = replace(
        site.request(context, "https", "E2"),
        url=f"https://{place}:{port}{site.host.path}",
        headers={"Host": site.host.host},
        trust=None,
        pinned=_key_hash(checked),
    )
    asked = site.ask(context, caller, request)
    if asked.response.exit_code:
        return Outcome(ok=False, observed=str(asked.response))
    return judged(
        _with_certificate(asked.response),
        [
            *differs("certificate", asked.response.certificates, checked.certificates),
            *site.served_faults(context, "https", request, asked, server_name),
        ],
        site.said(asked.line),
    )


def _unknown_name(site: Site, caller: Caller, context: Context) -> Outcome:
    name = f"unknown-{secrets.token_hex(6)}.invalid"
    address = site.address(context, "https")
    request = replace(site.request(context, "https", "E2"), url=f"https://{name}/", connect_to={(name, 443): address})
    start = time.monotonic()
    response = curl.send(caller.shell, request)
    if response.exit_code != curl.TLS_FAILED:
        return Outcome(ok=False, observed=str(response))
    if not site.gateway.access_log:
        return Outcome(ok=True, observed=str(response), evidence=f"{site.said(None)}: {response.error}")
    line = site.proxies(context).line(
        lambda line: line.response_code_details == NO_FILTER_CHAIN and line.requested_server_name == name, start
    )
    return judged(str(response), [] if line else [NOT_LOGGED], site.said(line))


def _with_certificate(response: Response) -> str:
    presented = f", {certificates.described(response.certificates)}" if response.tls_version else ""
    return f"{response}{presented}"


def _key_hash(response: Response) -> str:
    key = response.certificates[0].public_key()
    digest = Hash(SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return base64.b64encode(digest.finalize()).decode()


def _json(response: Response) -> Any:
    try:
        return json.loads(response.body)
    except ValueError:
        return None
