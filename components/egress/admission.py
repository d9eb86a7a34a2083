"""What the API server refuses in the teams' namespaces, because it would get around the egress gateway."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.egress.network_policy import TEAM_LABEL

CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
    *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    *("NET_ADMIN", "NET_RAW"),
)
"""Those of Pod Security's level baseline, and the two with which istio-init redirects a pod's own traffic."""

CONTAINERS = ("containers", "initContainers", "ephemeralContainers")

NETWORK_RULES = [
    {
        "expression": ("authorizer.group('').resource('namespaces').name(request.namespace).check('delete').allowed()"),
        "message": (
            "NetworkPolicies of a team's namespace are the platform's: they keep its pods to the egress gateway. "
            "Only who may delete the namespace may change them"
        ),
        "reason": "Forbidden",
    }
]

SERVICE_RULES = [
    {
        "expression": "object.spec.?externalIPs.orValue([]).size() == 0",
        "message": (
            "not in a team's namespace: externalIPs would draw other pods' traffic to these addresses to the team, "
            "and what the egress gateway sends there too"
        ),
        "reason": "Forbidden",
    }
]


@dataclass(kw_only=True)
class TeamAdmissionArgs:
    """Arguments of TeamAdmission."""

    node_taint: pulumi.Input[Mapping[str, str]]
    """Taint of the gateway's nodes: key, value and effect."""


class TeamAdmission(pulumi.ComponentResource):
    """ValidatingAdmissionPolicies for namespaces with the label meshgate.dev/team, and no others.

    `team-pods`: no pod leaves its own network namespace, gets the node, or comes onto the gateway's nodes.
    `team-networks`: NetworkPolicies are written only by those who may delete the namespace. The ClusterRole `edit`
    would let a team's members change them.
    `team-services`: no Service takes over addresses outside the cluster (CVE-2020-8554).
    Reference: Kubernetes, "Validating Admission Policy".
    """

    def __init__(self, name: str, args: TeamAdmissionArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:egress:TeamAdmission", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        _policy(
            f"{name}-pods",
            "team-pods.meshgate.dev",
            operations=["CREATE", "UPDATE"],
            api_group="",
            resources=["pods", "pods/ephemeralcontainers"],
            validations=pulumi.Output.from_input(args.node_taint).apply(pod_rules),
            opts=child,
        )
        _policy(
            f"{name}-networks",
            "team-networks.meshgate.dev",
            operations=["CREATE", "UPDATE", "DELETE"],
            api_group="networking.k8s.io",
            resources=["networkpolicies"],
            validations=NETWORK_RULES,
            opts=child,
        )
        _policy(
            f"{name}-services",
            "team-services.meshgate.dev",
            operations=["CREATE", "UPDATE"],
            api_group="",
            resources=["services"],
            validations=SERVICE_RULES,
            opts=child,
        )
        self.register_outputs({})


def pod_rules(taint: Mapping[str, str]) -> list[dict[str, str]]:
    """The validations of pods, in CEL; `taint` is that of the gateway's nodes."""
    key, value, effect = (json.dumps(taint[part]) for part in ("key", "value", "effect"))
    host = " && ".join(f"!object.spec.?{field}.orValue(false)" for field in ("hostNetwork", "hostPID", "hostIPC"))
    capabilities = ", ".join(f"'{name}'" for name in CAPABILITIES)
    # As the scheduler matches them: without an effect it fits every effect, without a key (Exists) every key.
    fits = (
        f"t.?effect.orValue('') in ['', {effect}] && "
        "(t.?key.orValue('') == '' ? t.?operator.orValue('') == 'Exists' : "
        f"t.key == {key} && (t.?operator.orValue('Equal') != 'Equal' || t.?value.orValue('') == {value}))"
    )
    return [
        _rule(host, "hostNetwork, hostPID and hostIPC would take the pod out of its own network, past its sidecar"),
        _rule(
            _every_container("!c.?securityContext.?privileged.orValue(false)"),
            "privileged containers own their node, whose network is not the pod's",
        ),
        _rule(
            _every_container(f"c.?securityContext.?capabilities.?add.orValue([]).all(name, name in [{capabilities}])"),
            f"with other capabilities than these, containers could own the node: {', '.join(CAPABILITIES)}",
        ),
        _rule(
            "object.spec.?volumes.orValue([]).all(v, !has(v.hostPath))",
            "hostPath volumes show the node's own files, and with them the node's credentials and runtime",
        ),
        _rule(
            f"object.spec.?tolerations.orValue([]).all(t, !({fits}))",
            f"a toleration fits the taint {taint['key']}={taint['value']}:{taint['effect']}: its nodes may reach the "
            "internet and are for the egress gateway only",
        ),
        _rule(
            "request.operation != 'CREATE' || object.spec.?nodeName.orValue('') == ''",
            "nodeName set by hand would get past the scheduler and the taint of the egress gateway's nodes",
        ),
    ]


def _every_container(expression: str) -> str:
    return " && ".join(f"object.spec.?{field}.orValue([]).all(c, {expression})" for field in CONTAINERS)


def _rule(expression: str, message: str) -> dict[str, str]:
    return {"expression": expression, "message": f"not in a team's namespace: {message}", "reason": "Forbidden"}


def _policy(
    resource_name: str,
    name: str,
    *,
    operations: list[str],
    api_group: str,
    resources: list[str],
    validations: pulumi.Input[list[dict[str, str]]],
    opts: pulumi.ResourceOptions,
) -> None:
    spec: Any = {
        "failurePolicy": "Fail",
        # With its defaults said: the API server compares it as a whole, and a `pulumi up` after one that was killed
        # must find it as it is.
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "objectSelector": {},
            "namespaceSelector": {"matchExpressions": [{"key": TEAM_LABEL, "operator": "Exists"}]},
            "resourceRules": [
                {
                    "apiGroups": [api_group],
                    "apiVersions": ["v1"],
                    "operations": operations,
                    "resources": resources,
                    "scope": "*",
                }
            ],
        },
        "validations": validations,
    }
    policy = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicy(
        resource_name,
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=name),
        spec=spec,
        opts=opts,
    )
    kubernetes.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
        f"{resource_name}-binding",
        metadata=kubernetes.meta.v1.ObjectMetaArgs(name=name),
        spec=kubernetes.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpecArgs(
            policy_name=policy.metadata.name, validation_actions=["Deny"]
        ),
        opts=opts,
    )
