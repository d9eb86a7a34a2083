"""Which requests a team's rules allow or refuse."""

from __future__ import annotations

from typing import Any

import pytest

from settings.teams import HttpHost, OriginateHost, Team
from verify.tenants import Asked, Tenant, allowed, invisible, refused, url


def _entry(allow: Any) -> HttpHost:
    return HttpHost.model_validate({"mode": "http", "host": "example.com", "allow": allow})


@pytest.mark.parametrize(
    ("allow", "good", "bad"),
    [
        ("none", None, Asked("GET", "/")),
        ("all", Asked("GET", "/"), None),
        ([{"paths": ["/status/418"]}], Asked("GET", "/status/418"), Asked("GET", "/")),
        ([{"paths": ["/"]}], Asked("GET", "/"), Asked("GET", "/meshgate-verify")),
        ([{"paths": ["/v1/*"]}], Asked("GET", "/v1/meshgate-verify"), Asked("GET", "/")),
        ([{"paths": ["*.html"]}], Asked("GET", "/meshgate-verify.html"), Asked("GET", "/")),
        ([{"paths": ["*"]}], Asked("GET", "/meshgate-verify"), None),
        ([{"methods": ["POST"]}], Asked("POST", "/"), Asked("GET", "/")),
        ([{"methods": ["GET"]}], Asked("GET", "/"), Asked("HEAD", "/")),
        ([{"methods": ["GET", "HEAD", "OPTIONS"]}], Asked("GET", "/"), None),
        (
            [{"methods": ["GET"], "paths": ["/a"]}, {"paths": ["/"]}],
            Asked("GET", "/a"),
            Asked("GET", "/meshgate-verify"),
        ),
    ],
)
def test_a_request_on_each_side_of_the_rules(allow: Any, good: Asked | None, bad: Asked | None) -> None:
    entry = _entry(allow)
    assert allowed(entry) == good
    assert refused(entry) == bad


def test_urls_name_the_port_only_where_it_is_not_the_usual() -> None:
    assert url(_entry("all"), "/a") == "http://example.com/a"
    other = OriginateHost.model_validate({"mode": "originate", "host": "example.com", "port": 8080})
    assert url(other) == "http://example.com:8080/"


def test_what_others_see_is_found_once() -> None:
    def team(name: str, *hosts: str) -> Tenant:
        listed = [{"mode": "http", "host": host} for host in hosts]
        return Tenant(Team.model_validate({"name": name, "namespaces": [name], "hosts": listed}), name)

    everyone = [team("a", "own.com"), team("b", "own.com", "b.com"), team("c", "b.com", "c.com")]
    assert [host.host for host in invisible(everyone[0], everyone)] == ["b.com", "c.com"]
