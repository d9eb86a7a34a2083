"""Scenario rate_limit: limits as Envoy and its service are told them, and who gets to the service and to Redis."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
import yaml

from components.rate_limit.limits import envoy_filter
from components.rate_limit.redis import configuration, password_of
from settings import SettingsError, load
from settings.mesh import IstioSettings, ManagedMesh
from settings.rate_limit import misfits
from tests.unit.program import UPSTREAM, Program, run

RATE_LIMIT = "prod-rate-limit"
LOCAL = [
    {"path": "/anything/local", "requestsPerUnit": 3, "unit": "second"},
    {"path": "/anything/local-client", "header": "x-client", "requestsPerUnit": 4, "unit": "minute"},
]
GLOBAL = [
    {"path": "/anything/global", "requestsPerUnit": 5, "unit": "hour"},
    {"path": "/anything/client.1", "header": "x-client", "requestsPerUnit": 6, "unit": "day"},
]
IN_MESH = {"istio.io/rev": "canary"}


def config(**section: Any) -> dict[str, Any]:
    return {
        "name": "prod",
        "layers": ["rate_limit"],
        "upstream": {"cluster": "base", "mesh": "base"},
        "rate_limit": {"localLimits": LOCAL, "globalLimits": GLOBAL, **section},
    }


def rate_limit(**section: Any) -> Program:
    """The layer alone, on a cluster and a mesh of another stack."""
    return run(config(**section), stack="prod", references={"base": dict(UPSTREAM)})


@pytest.fixture(scope="module")
def program() -> Program:
    """One run for all tests that only look at it."""
    return rate_limit()


@pytest.fixture(scope="module")
def other() -> Program:
    """With everything said that the first leaves out."""
    return rate_limit(
        namespace="limited",
        failureMode="allow",
        service={"replicas": 1},
        globalLimits=GLOBAL[:1],
        metricsFrom=["observability"],
    )


def spec(program: Program, name: str) -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{RATE_LIMIT}-{name}").inputs["spec"]
    return found


def http_filter(program: Program, name: str) -> dict[str, Any]:
    """What an EnvoyFilter inserts."""
    (patch,) = spec(program, name)["configPatches"]
    inserted: dict[str, Any] = patch["patch"]["value"]
    return inserted


def descriptors(found: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The actions of each descriptor."""
    return [one["actions"] for one in found["typed_config"]["rate_limits"]]


# What the sidecars are told


def test_filters_are_the_applications_and_the_last_before_the_router() -> None:
    assert envoy_filter({"name": "x"}) == {
        "workloadSelector": {"labels": {"app": "httpbin"}},
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {
                    "context": "SIDECAR_INBOUND",
                    "listener": {
                        "filterChain": {
                            "filter": {
                                "name": "envoy.filters.network.http_connection_manager",
                                "subFilter": {"name": "envoy.filters.http.router"},
                            }
                        }
                    },
                },
                "patch": {"operation": "INSERT_BEFORE", "value": {"name": "x"}},
            }
        ],
    }


def test_a_local_limit_is_a_bucket_of_each_proxy(program: Program) -> None:
    found = http_filter(program, "local-ratelimit")
    assert found["name"] == "envoy.filters.http.local_ratelimit"
    typed = found["typed_config"]
    assert typed["@type"].endswith("/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit")
    assert typed["descriptors"] == [
        {
            "entries": [{"key": "PATH", "value": "/anything/local"}],
            "token_bucket": {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "1s"},
        },
        {
            # Without a value: each value has a bucket of its own.
            "entries": [{"key": "PATH", "value": "/anything/local-client"}, {"key": "x-client"}],
            "token_bucket": {"max_tokens": 4, "tokens_per_fill": 4, "fill_interval": "60s"},
        },
    ]
    # Envoy's defaults are 0 %, and a bucket for all other requests would limit them too.
    for part in ("filter_enabled", "filter_enforced"):
        assert typed[part] == {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    assert "token_bucket" not in typed


def test_a_global_limit_is_asked_of_the_service(program: Program) -> None:
    found = http_filter(program, "ratelimit")
    assert found["name"] == "envoy.filters.http.ratelimit"
    typed = found["typed_config"]
    assert typed["@type"].endswith("/envoy.extensions.filters.http.ratelimit.v3.RateLimit")
    assert (typed["domain"], typed["failure_mode_deny"], typed["timeout"]) == ("rate-limit", True, "2s")
    assert typed["rate_limit_service"] == {
        "transport_api_version": "V3",
        "grpc_service": {
            "envoy_grpc": {
                "cluster_name": "outbound|8081||ratelimit.rate-limit.svc.cluster.local",
                "authority": "ratelimit.rate-limit.svc.cluster.local",
            }
        },
    }


def test_failure_mode_and_namespace(other: Program) -> None:
    typed = http_filter(other, "ratelimit")["typed_config"]
    assert (typed["domain"], typed["failure_mode_deny"]) == ("limited", False)
    cluster = typed["rate_limit_service"]["grpc_service"]["envoy_grpc"]["cluster_name"]
    assert cluster == "outbound|8081||ratelimit.limited.svc.cluster.local"


@pytest.mark.parametrize(
    ("path", "limited"),
    [
        ("/anything/client.1", True),
        ("/anything/client.1?a=b", True),
        ("/anything/client.1/below", True),
        ("/anything/client.12", False),
        ("/anything/client-1", False),
        ("/anything", False),
        ("/other/anything/client.1", False),
    ],
)
def test_a_limit_is_for_its_path_and_what_is_below(program: Program, path: str, limited: bool) -> None:
    for actions in descriptors(http_filter(program, "ratelimit"))[1:]:
        match = actions[0]["header_value_match"]
        assert (match["descriptor_key"], match["descriptor_value"]) == ("PATH", "/anything/client.1")
        (header,) = match["headers"]
        assert header["name"] == ":path"
        # Envoy matches the whole value.
        assert bool(re.fullmatch(header["string_match"]["safe_regex"]["regex"], path)) is limited


def test_requests_without_the_header_are_counted_together(program: Program) -> None:
    for name in ("ratelimit", "local-ratelimit"):
        _, with_header, without = descriptors(http_filter(program, name))
        assert with_header[1] == {"request_headers": {"header_name": "x-client", "descriptor_key": "x-client"}}
        assert without[0] == with_header[0]
        assert without[1] == {
            "header_value_match": {
                "descriptor_key": "x-client",
                "descriptor_value": "-",
                "expect_match": False,
                "headers": [{"name": "x-client", "present_match": True}],
            }
        }


def test_a_limit_without_a_header_has_one_descriptor(other: Program) -> None:
    ((only,),) = descriptors(http_filter(other, "ratelimit"))
    assert only["header_value_match"]["descriptor_value"] == "/anything/global"


def test_a_sidecar_hears_of_the_service_before_the_filter_that_asks_it(program: Program) -> None:
    assert f"{RATE_LIMIT}-service-service" in program.one(f"{RATE_LIMIT}-ratelimit").dependencies


# The service


def test_the_service_has_the_limits_that_the_sidecars_ask_for(program: Program) -> None:
    (text,) = program.one(f"{RATE_LIMIT}-service-limits").inputs["data"].values()
    assert yaml.safe_load(text) == {
        "domain": "rate-limit",
        "descriptors": [
            {
                "key": "PATH",
                "value": "/anything/global",
                "rate_limit": {"unit": "hour", "requests_per_unit": 5},
            },
            {
                "key": "PATH",
                "value": "/anything/client.1",
                "descriptors": [{"key": "x-client", "rate_limit": {"unit": "day", "requests_per_unit": 6}}],
            },
        ],
    }


def test_only_the_application_may_ask_and_only_for_decisions(program: Program) -> None:
    assert spec(program, "service-clients") == {
        "selector": {"matchLabels": {"app": "ratelimit"}},
        "rules": [
            {
                "from": [{"source": {"principals": ["cluster.local/ns/rate-limit/sa/httpbin"]}}],
                "to": [
                    {
                        "operation": {
                            "ports": ["8081"],
                            "methods": ["POST"],
                            "paths": ["/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"],
                        }
                    }
                ],
            }
        ],
    }
    assert f"{RATE_LIMIT}-service-clients" in program.one(f"{RATE_LIMIT}-service-deployment").dependencies


def environment(program: Program) -> dict[str, Any]:
    (container,) = spec(program, "service-deployment")["template"]["spec"]["containers"]
    return {one["name"]: one.get("value") or one["valueFrom"] for one in container["env"]}


def test_the_service_reads_its_limits_where_they_are(program: Program) -> None:
    found = environment(program)
    (container,) = spec(program, "service-deployment")["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == f"{found['RUNTIME_ROOT']}/{found['RUNTIME_APPDIRECTORY']}" == "/etc/meshgate/limits"
    assert (found["RUNTIME_WATCH_ROOT"], found["RUNTIME_IGNOREDOTFILES"]) == ("false", "true")
    # In the public image no command is said.
    assert container["command"] == ["/bin/ratelimit"]


def test_the_service_shows_nobody_its_debugging_interface(program: Program) -> None:
    assert environment(program)["DEBUG_HOST"] == "127.0.0.1"
    (port,) = spec(program, "service-service")["ports"]
    # Its name makes Istio speak HTTP/2 to it.
    assert (port["name"], port["port"], port["targetPort"]) == ("grpc", 8081, "grpc")


def test_the_service_comes_after_redis_and_is_ready_with_it(program: Program) -> None:
    dependencies = program.one(f"{RATE_LIMIT}-service-deployment").dependencies
    assert {f"{RATE_LIMIT}-redis-deployment", f"{RATE_LIMIT}-redis-service"} <= dependencies
    found = environment(program)
    assert found["REDIS_HEALTH_CHECK_ACTIVE_CONNECTION"] == "true"
    assert (found["REDIS_SOCKET_TYPE"], found["REDIS_URL"]) == ("tcp", "redis.rate-limit.svc.cluster.local:6379")


def test_the_service_starts_anew_with_other_limits(program: Program, other: Program) -> None:
    first, second = (
        spec(one, "service-deployment")["template"]["metadata"]["annotations"]["meshgate.dev/configuration"]
        for one in (program, other)
    )
    assert first != second


def test_replicas(program: Program, other: Program) -> None:
    assert [spec(one, "service-deployment")["replicas"] for one in (program, other)] == [2, 1]
    assert spec(program, "httpbin")["replicas"] == 2


def test_pods_are_in_the_mesh_and_follow_its_revision(program: Program) -> None:
    assert program.one(f"{RATE_LIMIT}-namespace").inputs["metadata"] == {"name": "rate-limit", "labels": IN_MESH}
    for name in ("httpbin", "service-deployment", "redis-deployment"):
        annotations = spec(program, name)["template"]["metadata"]["annotations"]
        assert annotations["meshgate.dev/revision"] == "1-31-1"


@pytest.mark.parametrize(("name", "user"), [("service-deployment", 65532), ("redis-deployment", 999)])
def test_pods_have_no_privileges(program: Program, name: str, user: int) -> None:
    (container,) = spec(program, name)["template"]["spec"]["containers"]
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["resources"]["limits"].keys() == {"memory"}


# Redis


def test_redis_knows_one_user_who_may_only_count() -> None:
    lines = configuration("secret").splitlines()
    digest = hashlib.sha256(b"secret").hexdigest()
    assert "user default off" in lines
    assert f"user ratelimit on #{digest} ~* resetchannels -@all +ping +incrby +expire +get" in lines
    assert [line for line in lines if line.startswith("user")] == lines[2:4]


def test_redis_keeps_nothing() -> None:
    lines = configuration("secret").splitlines()
    assert 'save ""' in lines
    assert "appendonly no" in lines
    assert "maxmemory-policy volatile-ttl" in lines


def secret(program: Program) -> dict[str, str]:
    data = program.one(f"{RATE_LIMIT}-redis-secret").inputs["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def test_the_password_follows_from_a_key_of_the_state(program: Program) -> None:
    user, _, found = secret(program)["auth"].partition(":")
    assert (user, found) == ("ratelimit", password_of(f"<key {RATE_LIMIT}-redis-key>"))
    assert len(found) == 43
    assert password_of("another key") != found
    assert secret(program)["redis.conf"] == configuration(found)
    made = program.one(f"{RATE_LIMIT}-redis-secret")
    assert "data" in made.secrets
    for resource in program.resources:
        if resource is not made:
            assert found not in str(resource.inputs)


def test_another_password_makes_the_pods_anew(program: Program) -> None:
    for deployment in ("redis-deployment", "service-deployment"):
        annotations = spec(program, deployment)["template"]["metadata"]["annotations"]
        assert annotations["meshgate.dev/password"] == f"<fingerprint {RATE_LIMIT}-redis-key>"


def test_the_password_gets_to_the_service_by_the_secret_alone(program: Program) -> None:
    assert environment(program)["REDIS_AUTH"] == {"secretKeyRef": {"name": "redis", "key": "auth"}}
    pod = spec(program, "redis-deployment")["template"]["spec"]
    assert pod["volumes"] == [
        {
            "name": "configuration",
            "secret": {
                "secretName": "redis",
                "defaultMode": 0o440,
                "items": [{"key": "redis.conf", "path": "redis.conf"}],
            },
        }
    ]
    assert pod["securityContext"] == {"fsGroup": 999}
    (container,) = pod["containers"]
    assert container["command"] == ["redis-server", "/etc/meshgate/redis.conf"]


def test_only_the_service_gets_to_redis(program: Program, other: Program) -> None:
    service = {
        "from": [{"podSelector": {"matchLabels": {"app": "ratelimit"}}}],
        "ports": [{"port": 6379, "protocol": "TCP"}],
    }
    closed = {"podSelector": {"matchLabels": {"app": "redis"}}, "policyTypes": ["Ingress"]}
    assert spec(program, "redis-network") == {**closed, "ingress": [service]}
    metrics = {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}],
        "ports": [{"port": 15020, "protocol": "TCP"}],
    }
    assert spec(other, "redis-network") == {**closed, "ingress": [service, metrics]}
    assert spec(program, "redis-clients") == {
        "selector": {"matchLabels": {"app": "redis"}},
        "rules": [
            {
                "from": [{"source": {"principals": ["cluster.local/ns/rate-limit/sa/ratelimit"]}}],
                "to": [{"operation": {"ports": ["6379"]}}],
            }
        ],
    }
    dependencies = program.one(f"{RATE_LIMIT}-redis-deployment").dependencies
    assert {f"{RATE_LIMIT}-redis-network", f"{RATE_LIMIT}-redis-clients"} <= dependencies


def test_contract(other: Program) -> None:
    assert other.outputs["rate_limit_namespace"] == "limited"


# Settings


def limit(**changed: Any) -> dict[str, Any]:
    return {**LOCAL[0], **changed}


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"localLimits": []}, "localLimits", "at least one entry"),
        ({"globalLimits": []}, "globalLimits", "at least one entry"),
        ({"localLimits": [limit(path="/status/200")]}, "localLimits[0].path", "a path below /anything"),
        ({"localLimits": [limit(path="/anything/")]}, "localLimits[0].path", "a path below /anything"),
        ({"localLimits": [limit(header="X-Client")]}, "localLimits[0].header", "lower case"),
        ({"localLimits": [limit(header=":path")]}, "localLimits[0].header", "lower case"),
        ({"localLimits": [limit(requestsPerUnit=0)]}, "localLimits[0].requestsPerUnit", "greater than or equal to 1"),
        ({"localLimits": [limit(unit="week")]}, "localLimits[0].unit", "'second', 'minute', 'hour' or 'day'"),
        ({"failureMode": "open"}, "failureMode", "'deny' or 'allow'"),
        ({"service": {"replicas": 0}}, "service.replicas", "greater than or equal to 1"),
        # A request would count for both.
        ({"localLimits": [limit(), limit()]}, "localLimits[1].path", "'/anything/local' (localLimits[0].path) overlap"),
        (
            {"globalLimits": [limit(path="/anything/local-client/below")]},
            "globalLimits[0].path",
            "'/anything/local-client' (localLimits[1].path) overlap",
        ),
        (
            {"localLimits": [limit(path="/anything/x/below")], "globalLimits": [limit(path="/anything/x")]},
            "globalLimits[0].path",
            "'/anything/x/below' (localLimits[0].path) overlap",
        ),
    ],
)
def test_bad_settings(section: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(config(**section))
    (problem,) = error.value.problems
    assert problem.key == f"rate_limit.{key}"
    assert message in problem.message


def test_paths_that_only_begin_alike_do_not_overlap() -> None:
    load(config(localLimits=[limit(), limit(path="/anything/local-too")]))


def test_the_namespace_of_another_layer_is_not_taken() -> None:
    both = config(namespace="istio-egress")
    both["layers"] = ["egress", "rate_limit"]
    both["upstream"]["gateway_pool"] = "base"
    both["egress"] = {"replicas": {"min": 1}}
    with pytest.raises(SettingsError, match=r"'istio-egress' is egress\.namespace too"):
        load(both)


@pytest.mark.parametrize(
    ("mesh", "version", "key"),
    [
        (None, "1.31.1", None),
        (None, "1.28.0", None),
        (None, "1.27.9", "istio.version"),
        (ManagedMesh.model_construct(), "1.31.1", "rate_limit"),
    ],
)
def test_a_mesh_that_would_not_limit_is_refused(mesh: Any, version: str, key: str | None) -> None:
    problems = list(misfits(mesh, IstioSettings(version=version)))
    assert [problem.key for problem in problems] == ([key] if key else [])
