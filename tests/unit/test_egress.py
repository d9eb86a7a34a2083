"""Layer egress: the gateway where nothing is allowed yet, who may change it, and what the API server refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.egress.admission import CONTAINERS, pod_rules
from components.egress.network_policy import gateway_policy
from tests.unit.program import UPSTREAM, Program, run

TAINT = {"key": "dedicated", "value": "gateway", "effect": "NoSchedule"}
GATEWAY = "prod-egress-gateway"


def egress(upstream: dict[str, Any] | None = None, **settings: Any) -> Program:
    """The layer alone, on a cluster, a mesh and nodes of another stack."""
    config = {
        "name": "prod",
        "layers": ["egress"],
        "upstream": {"cluster": "base", "gateway_pool": "base", "mesh": "base"},
        "istio": {"hub": "registry.example.com"},
        "egress": settings or {"namespace": "istio-egress"},
    }
    return run(config, stack="prod", references={"base": {**UPSTREAM, **(upstream or {})}})


def values(program: Program) -> dict[str, Any]:
    found: dict[str, Any] = program.one(f"{GATEWAY}-release").inputs["values"]
    return found


def metadata(name: str, namespace: str = "istio-egress") -> dict[str, str]:
    return {"name": name, "namespace": namespace}


# The gateway


def test_namespace() -> None:
    assert egress().one(f"{GATEWAY}-namespace").inputs["metadata"] == {
        "name": "istio-egress",
        "labels": {
            "istio.io/rev": "canary",
            "pod-security.kubernetes.io/enforce": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/audit": "restricted",
        },
    }


def test_release() -> None:
    release = egress().one(f"{GATEWAY}-release").inputs
    # The chart makes the label istio: egressgateway of the name, which every policy selects.
    assert (release["name"], release["namespace"], release["chart"]) == (
        "istio-egressgateway",
        "istio-egress",
        "gateway",
    )


def test_on_its_nodes_and_spread_over_them() -> None:
    found = values(egress())
    assert found["nodeSelector"] == {"pool": "edge"}
    assert found["tolerations"] == [{"key": "pool", "operator": "Equal", "value": "edge", "effect": "NoExecute"}]
    assert found["topologySpreadConstraints"] == [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"istio": "egressgateway"}},
        }
    ]


def test_reached_from_inside_only() -> None:
    assert values(egress())["service"] == {
        "type": "ClusterIP",
        "ports": [
            {"name": "status-port", "port": 15021, "targetPort": 15021, "protocol": "TCP"},
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "tls", "port": 443, "targetPort": 8443, "protocol": "TCP"},
        ],
    }


@pytest.mark.parametrize(
    ("replicas", "budget"), [({"min": 1, "max": 1}, None), ({"min": 2, "max": 4}, {"minAvailable": 1})]
)
def test_replicas(replicas: dict[str, int], budget: dict[str, int] | None) -> None:
    found = values(egress(replicas=replicas, resources={"cpu": "20m", "memory": "64Mi", "memoryLimit": "3Gi"}))
    assert found["autoscaling"] == {"minReplicas": replicas["min"], "maxReplicas": replicas["max"]}
    assert found.get("podDisruptionBudget") == budget
    assert found["resources"] == {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "3Gi"}}


def test_fits_the_strictest_pod_security() -> None:
    assert values(egress())["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_callers_are_not_told_to_the_world() -> None:
    proxy = json.loads(values(egress())["podAnnotations"]["proxy.istio.io/config"])
    assert proxy["proxyHeaders"] == {
        "forwardedClientCert": "SANITIZE",
        "attemptCount": {"disabled": True},
        "envoyDebugHeaders": {"disabled": True},
    }


def test_closed_before_the_first_pod() -> None:
    program = egress()
    policy = program.one(f"{GATEWAY}-allow-nothing")
    assert policy.type == "kubernetes:security.istio.io/v1:AuthorizationPolicy"
    assert policy.inputs["metadata"] == metadata("allow-nothing")
    assert policy.inputs.get("spec", {}) == {}
    assert {f"{GATEWAY}-allow-nothing", f"{GATEWAY}-network"} <= program.one(f"{GATEWAY}-release").dependencies


def test_one_gateway_for_requests() -> None:
    gateway = egress().one(f"{GATEWAY}-gateway").inputs
    assert gateway["metadata"] == metadata("egress-gateway")
    assert gateway["spec"] == {
        "selector": {"istio": "egressgateway"},
        "servers": [
            {
                "port": {"number": 80, "name": "https", "protocol": "HTTPS"},
                "hosts": ["*"],
                "tls": {"mode": "ISTIO_MUTUAL"},
            }
        ],
    }


def test_tls_for_every_host_touches_nothing_else() -> None:
    rule = egress().one(f"{GATEWAY}-originate-tls").inputs
    assert rule["metadata"] == metadata("originate-tls")
    # No policy of the rule's own, no fixed server name, and for this namespace alone.
    assert rule["spec"] == {
        "host": "*",
        "exportTo": ["."],
        "subsets": [{"name": "originate-tls", "trafficPolicy": {"tls": {"mode": "SIMPLE"}}}],
    }


def test_contract() -> None:
    assert egress().outputs == {
        "egress_contract": 1,
        "egress_namespace": "istio-egress",
        "egress_service": "istio-egressgateway.istio-egress.svc.cluster.local",
        "egress_gateway": "istio-egress/egress-gateway",
        "egress_selector": {"istio": "egressgateway"},
        "egress_identity": "spiffe://cluster.local/ns/istio-egress/sa/istio-egressgateway",
        "egress_target_ports": {"http": 8080, "tls": 8443},
        "egress_originate_subset": "originate-tls",
    }


def test_another_namespace_and_trust_domain() -> None:
    outputs = egress({"mesh_trust_domain": "mesh.example"}, namespace="out").outputs
    assert outputs["egress_identity"] == "spiffe://mesh.example/ns/out/sa/istio-egressgateway"
    assert outputs["egress_service"] == "istio-egressgateway.out.svc.cluster.local"


# Its NetworkPolicy


def test_network_policy() -> None:
    policy = egress(dnsAddresses=["169.254.20.10/32"], metricsFrom=["monitoring"]).one(f"{GATEWAY}-network").inputs
    assert policy["metadata"] == metadata("egress-gateway")
    assert policy["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {
                "from": [
                    {"namespaceSelector": {"matchExpressions": [{"key": "meshgate.dev/team", "operator": "Exists"}]}}
                ],
                "ports": [{"port": 8080, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}],
            },
            {
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                "ports": [{"port": 15020, "protocol": "TCP"}],
            },
        ],
        "egress": [
            {
                "to": [
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}},
                    {"ipBlock": {"cidr": "169.254.20.10/32"}},
                ],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
            {
                "to": [
                    {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "istio-control"}},
                        "podSelector": {"matchLabels": {"app": "istiod"}},
                    }
                ],
                "ports": [{"port": 15012, "protocol": "TCP"}],
            },
            {
                "to": [
                    {
                        "ipBlock": {
                            "cidr": "0.0.0.0/0",
                            # The cluster's pods and Services, and the cloud's metadata server, are not outside.
                            "except": ["10.1.0.0/16", "10.2.0.0/20", "169.254.0.0/16"],
                        }
                    }
                ]
            },
        ],
    }


def test_nobody_reads_metrics_unless_named() -> None:
    policy = egress().one(f"{GATEWAY}-network").inputs["spec"]
    assert [rule["ports"] for rule in policy["ingress"]] == [
        [{"port": 8080, "protocol": "TCP"}, {"port": 8443, "protocol": "TCP"}]
    ]


def test_control_plane_outside_the_cluster() -> None:
    def rules(*cidrs: str) -> list[Any]:
        policy = gateway_policy(
            ports=[8080],
            metrics_from=[],
            dns_addresses=[],
            cluster_cidrs=["10.1.0.0/16"],
            mesh_namespace="istio-system",
            control_plane_cidrs=cidrs,
        )
        return list(policy["egress"])

    # An empty list would be everywhere.
    assert all(rule["to"] for rule in rules())
    assert {
        "to": [{"ipBlock": {"cidr": "10.9.0.0/28"}}],
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 15012, "protocol": "TCP"}],
    } in rules("10.9.0.0/28")


# Administrators


def test_administrators() -> None:
    program = egress(administrators=["network-admins"])
    (role,) = program.of(":Role")
    assert role.inputs["metadata"] == metadata("egress-administrators")
    assert role.inputs["rules"] == [
        {
            "apiGroups": [
                "networking.istio.io",
                "security.istio.io",
                "telemetry.istio.io",
                "extensions.istio.io",
            ],
            "resources": ["*"],
            "verbs": ["*"],
        }
    ]
    bindings = program.of(":RoleBinding")
    assert {(it.inputs["roleRef"]["kind"], it.inputs["roleRef"]["name"]) for it in bindings} == {
        ("Role", "egress-administrators"),
        ("ClusterRole", "edit"),
    }
    for binding in bindings:
        assert binding.inputs["metadata"]["namespace"] == "istio-egress"
        assert binding.inputs["subjects"] == [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "network-admins"}
        ]


def test_nobody_is_bound_unless_named() -> None:
    program = egress()
    assert program.of(":RoleBinding") == program.of(":Role") == program.of(":ClusterRoleBinding") == []


# Admission. The expressions themselves are tried on a real API server (tests/engine, tests/lab).


@pytest.mark.parametrize(
    ("name", "operations", "group", "resources"),
    [
        ("pods", ["CREATE", "UPDATE"], "", ["pods", "pods/ephemeralcontainers"]),
        ("services", ["CREATE", "UPDATE"], "", ["services"]),
        # Also DELETE: without its policy a namespace is open.
        ("networks", ["CREATE", "UPDATE", "DELETE"], "networking.k8s.io", ["networkpolicies"]),
    ],
)
def test_policies_are_for_teams_namespaces_and_deny(
    name: str, operations: list[str], group: str, resources: list[str]
) -> None:
    program = egress()
    policy = program.one(f"prod-egress-admission-{name}").inputs
    assert policy["metadata"] == {"name": f"team-{name}.meshgate.dev"}
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert policy["spec"]["matchConstraints"] == {
        "matchPolicy": "Equivalent",
        "objectSelector": {},
        "namespaceSelector": {"matchExpressions": [{"key": "meshgate.dev/team", "operator": "Exists"}]},
        "resourceRules": [
            {
                "apiGroups": [group],
                "apiVersions": ["v1"],
                "operations": operations,
                "resources": resources,
                "scope": "*",
            }
        ],
    }
    assert program.one(f"prod-egress-admission-{name}-binding").inputs["spec"] == {
        "policyName": f"team-{name}.meshgate.dev",
        "validationActions": ["Deny"],
    }


def test_every_refusal_says_what_and_why() -> None:
    rules = pod_rules(TAINT)
    assert [rule["message"].startswith("not in a team's namespace: ") for rule in rules] == [True] * 6
    said = " ".join(rule["message"] for rule in rules)
    for word in ("hostNetwork", "hostPID", "hostIPC", "privileged", "capabilities", "hostPath", "nodeName"):
        assert word in said
    assert "dedicated=gateway:NoSchedule" in said


def test_containers_of_every_kind_are_looked_at() -> None:
    privileged = next(rule for rule in pod_rules(TAINT) if "privileged" in rule["message"])
    assert all(f"object.spec.?{field}." in privileged["expression"] for field in CONTAINERS)
    assert CONTAINERS == ("containers", "initContainers", "ephemeralContainers")


def test_taint_is_that_of_the_gateways_nodes() -> None:
    rules = egress().one("prod-egress-admission-pods").inputs["spec"]["validations"]
    (expression,) = [rule["expression"] for rule in rules if "toleration" in rule["message"]]
    assert '"pool"' in expression
    assert '"edge"' in expression
    assert '"NoExecute"' in expression
