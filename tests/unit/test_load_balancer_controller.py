"""The AWS Load Balancer Controller (row E1): its values, its role, and a policy that is complete and no wider."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.unit.eks_layers import made, statements
from tests.unit.program import Program

NAME = "aws-load-balancer-controller"
ROLE = "eks-cluster-load-balancers-role"
POLICY = f"{ROLE}-load-balancers"
RELEASE = "eks-cluster-load-balancers-release"
IDENTITY = "eks-cluster-load-balancers-identity"


@pytest.fixture(scope="module")
def program() -> Program:
    """The cluster as it is by default."""
    return made("cluster")


# The release


def test_every_value_of_the_release(program: Program) -> None:
    inputs = program.one(RELEASE).inputs
    assert {key: value for key, value in inputs.items() if key not in ("compat", "values")} == {
        "name": NAME,
        "namespace": "kube-system",
        "chart": NAME,
        "version": "3.5.0",
        "repositoryOpts": {"repo": "https://aws.github.io/eks-charts"},
        "timeout": 300,
    }
    assert inputs["values"] == {
        "clusterName": "cluster1",
        # The metadata service does not answer pods.
        "region": "eu-central-1",
        "vpcId": "vpc-1",
        "replicaCount": 2,
        "podDisruptionBudget": {"maxUnavailable": 1},
        "image": {"repository": f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/eks/ecr-public/eks/{NAME}"},
        "serviceAccount": {"create": True, "name": NAME, "annotations": {}},
        "defaultTags": {"meshgate.dev/environment": "eks"},
        "enableServiceMutatorWebhook": False,
        "createIngressClassResource": False,
        "ingressClassParams": {"create": False},
        "disableIngressClassAnnotation": True,
        "controllerConfig": {"featureGates": {"ALBGatewayAPI": False, "NLBGatewayAPI": False}},
        "enableShield": False,
        "enableWaf": False,
        "enableWafv2": False,
    }


def values(program: Program) -> dict[str, Any]:
    found = program.one(RELEASE).inputs["values"]
    assert isinstance(found, dict)
    return found


def test_further_settings() -> None:
    program = made("cluster", loadBalancerController={"version": "3.5.2", "replicas": 3, "image": "mirror.test/lbc"})
    assert program.one(RELEASE).inputs["version"] == "3.5.2"
    assert values(program)["replicaCount"] == 3
    assert values(program)["image"] == {"repository": "mirror.test/lbc"}


def test_image_without_a_cache() -> None:
    program = made("cluster", upstream={"network_image_prefixes": {"quay.io": "elsewhere"}})
    assert values(program)["image"] == {"repository": f"public.ecr.aws/eks/{NAME}"}


@pytest.mark.parametrize(
    ("charts", "source"),
    [
        (
            "https://charts.test/eks",
            {"chart": NAME, "version": "3.5.0", "repositoryOpts": {"repo": "https://charts.test/eks"}},
        ),
        ("oci://charts.test/eks", {"chart": f"oci://charts.test/eks/{NAME}", "version": "3.5.0"}),
        ("/charts", {"chart": f"/charts/{NAME}"}),
    ],
)
def test_where_the_chart_comes_from(charts: str, source: dict[str, Any]) -> None:
    inputs = made("cluster", loadBalancerController={"charts": charts}).one(RELEASE).inputs
    assert {key: inputs[key] for key in ("chart", "version", "repositoryOpts") if key in inputs} == source


# The role


def test_pod_identity(program: Program) -> None:
    """The role is for the controller's service account alone, and there before its pods, which get it when made."""
    assert statements(program.one(ROLE), "assumeRolePolicy") == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {
                    "aws:RequestTag/eks-cluster-name": "cluster1",
                    "aws:RequestTag/kubernetes-namespace": "kube-system",
                    "aws:RequestTag/kubernetes-service-account": NAME,
                }
            },
        }
    ]
    assert program.one(IDENTITY).inputs == {
        "clusterName": "cluster1",
        "namespace": "kube-system",
        "serviceAccount": NAME,
        "roleArn": f"<arn {ROLE}>",
    }
    assert {ROLE, POLICY} <= program.one(IDENTITY).dependencies
    assert IDENTITY in program.one(RELEASE).dependencies


def test_web_identity() -> None:
    program = made("cluster", identity="irsa")
    issuer = "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"
    (statement,) = statements(program.one(ROLE), "assumeRolePolicy")
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Federated": "<arn eks-cluster-issuer>"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringEquals": {
                f"{issuer}:aud": "sts.amazonaws.com",
                f"{issuer}:sub": f"system:serviceaccount:kube-system:{NAME}",
            }
        },
    }
    assert values(program)["serviceAccount"]["annotations"] == {"eks.amazonaws.com/role-arn": f"<arn {ROLE}>"}
    assert program.of("eks/podIdentityAssociation:PodIdentityAssociation") == []
    assert POLICY in program.one(RELEASE).dependencies


# The policy is complete: the calls that version 3.5.0 has in its own policy, but for what is switched off

READS = {
    "ec2": """DescribeAccountAttributes DescribeAddresses DescribeAvailabilityZones DescribeInternetGateways
        DescribeVpcs DescribeVpcPeeringConnections DescribeSubnets DescribeSecurityGroups DescribeInstances
        DescribeNetworkInterfaces DescribeTags GetCoipPoolUsage DescribeCoipPools GetSecurityGroupsForVpc
        DescribeIpamPools DescribeRouteTables""",
    "elasticloadbalancing": """DescribeLoadBalancers DescribeLoadBalancerAttributes DescribeListeners
        DescribeListenerCertificates DescribeSSLPolicies DescribeRules DescribeTargetGroups DescribeTags
        DescribeTargetGroupAttributes DescribeTargetHealth DescribeTrustStores DescribeListenerAttributes
        DescribeCapacityReservation""",
    "acm": "ListCertificates DescribeCertificate",
    "iam": "ListServerCertificates GetServerCertificate",
}
WRITES = {
    "iam": "CreateServiceLinkedRole",
    "ec2": """AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress CreateSecurityGroup DeleteSecurityGroup
        CreateTags DeleteTags""",
    "elasticloadbalancing": """CreateLoadBalancer CreateTargetGroup CreateListener DeleteListener AddTags RemoveTags
        ModifyLoadBalancerAttributes SetIpAddressType SetSecurityGroups SetSubnets DeleteLoadBalancer ModifyTargetGroup
        ModifyTargetGroupAttributes DeleteTargetGroup ModifyListenerAttributes ModifyCapacityReservation RegisterTargets
        DeregisterTargets ModifyListener AddListenerCertificates RemoveListenerCertificates""",
}
LEFT_OUT = {
    # enableShield, enableWaf and enableWafv2 are false.
    "shield": "GetSubscriptionState DescribeProtection CreateProtection DeleteProtection",
    "waf-regional": "GetWebACL GetWebACLForResource AssociateWebACL DisassociateWebACL",
    "wafv2": "GetWebACL GetWebACLForResource AssociateWebACL DisassociateWebACL",
    # Of application load balancers, which Ingress and the Gateway API make: both are switched off.
    "cognito-idp": "DescribeUserPoolClient",
    "elasticloadbalancing": "CreateRule DeleteRule ModifyRule SetRulePriorities SetWebAcl ModifyIpPools",
}


def actions(table: Mapping[str, str]) -> set[str]:
    return {f"{service}:{action}" for service, names in table.items() for action in names.split()}


def allowed(program: Program) -> set[str]:
    return {action for statement in statements(program.one(POLICY), "policy") for action in statement["Action"]}


def test_policy_has_the_calls_of_its_version(program: Program) -> None:
    assert allowed(program) == actions(READS) | actions(WRITES)
    assert len(actions(READS) | actions(WRITES) | actions(LEFT_OUT)) == 33 + 28 + 19
    assert not allowed(program) & actions(LEFT_OUT)


def test_what_is_left_out_is_switched_off(program: Program) -> None:
    chosen = values(program)
    assert [chosen[key] for key in ("enableShield", "enableWaf", "enableWafv2", "createIngressClassResource")] == (
        [False] * 4
    )
    assert set(chosen["controllerConfig"]["featureGates"].values()) == {False}


# The policy is no wider: what changes something is about this cluster's own, or the nodes' groups


def test_only_looking_is_about_everything(program: Program) -> None:
    for statement in statements(program.one(POLICY), "policy"):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in statement["Action"])
        resources = [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
        if resources == ["*"]:
            assert set(statement["Action"]) == actions(READS)
            continue
        for resource in resources:
            assert re.match(
                r"arn:aws:(ec2|elasticloadbalancing):eu-central-1:123456789012:|arn:aws:iam::123456789012:", resource
            )
            # A pattern of resources has a condition that says whose they are.
            assert "*" not in resource or "Condition" in statement


@dataclass(frozen=True)
class Call:
    """One request, as IAM sees it about one resource."""

    action: str
    resource: str
    tags: Mapping[str, str] = field(default_factory=dict)
    """The resource's."""

    request_tags: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)


def decided(policy: list[dict[str, Any]], call: Call) -> bool:
    """Whether a statement allows the call; an operator that is not known here is an error, not a pass."""
    context = {
        **{f"aws:ResourceTag/{key}": value for key, value in call.tags.items()},
        **{f"aws:RequestTag/{key}": value for key, value in call.request_tags.items()},
        **call.context,
    }

    def holds(operator: str, key: str, wanted: str | list[str]) -> bool:
        if operator == "Null":
            return (key not in context) == (wanted == "true")
        assert operator == "StringEquals", operator
        return context.get(key) in ([wanted] if isinstance(wanted, str) else wanted)

    return any(
        call.action in statement["Action"]
        and any(
            fnmatchcase(call.resource, resource)
            for resource in (
                [statement["Resource"]] if isinstance(statement["Resource"], str) else statement["Resource"]
            )
        )
        and all(
            holds(operator, key, wanted)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
        for statement in policy
    )


def elb(action: str) -> str:
    return f"elasticloadbalancing:{action}"


EC2 = "arn:aws:ec2:eu-central-1:123456789012"
ELB = "arn:aws:elasticloadbalancing:eu-central-1:123456789012"
BALANCER = f"{ELB}:loadbalancer/net/k8s-istioedg-tls-0123456789/0123456789abcdef"
LISTENER = f"{ELB}:listener/net/k8s-istioedg-tls-0123456789/0123456789abcdef/fedcba9876543210"
TARGETS = f"{ELB}:targetgroup/k8s-istioedg-tls-0123456789/0123456789abcdef"
GROUP = f"{EC2}:security-group/sg-of-controller"
CLUSTER = "elbv2.k8s.aws/cluster"
OURS = {CLUSTER: "cluster1", "service.k8s.aws/stack": "istio-edge/tls"}
OTHERS = {CLUSTER: "cluster2"}
MORE = {"service.k8s.aws/resource": "LoadBalancer"}


LIFE_OF_A_LOAD_BALANCER = [
    Call(
        "iam:CreateServiceLinkedRole",
        "arn:aws:iam::123456789012:role/aws-service-role/elasticloadbalancing.amazonaws.com/"
        "AWSServiceRoleForElasticLoadBalancing",
        context={"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"},
    ),
    Call("ec2:CreateSecurityGroup", f"{EC2}:vpc/vpc-1", request_tags=OURS),
    Call("ec2:CreateSecurityGroup", f"{EC2}:security-group/*", request_tags=OURS),
    Call("ec2:CreateTags", GROUP, request_tags=OURS, context={"ec2:CreateAction": "CreateSecurityGroup"}),
    Call("ec2:AuthorizeSecurityGroupIngress", GROUP, OURS),
    Call("ec2:RevokeSecurityGroupIngress", GROUP, OURS),
    Call("ec2:AuthorizeSecurityGroupIngress", f"{EC2}:security-group/sg-app"),
    Call("ec2:AuthorizeSecurityGroupIngress", f"{EC2}:security-group/sg-gw"),
    Call("ec2:RevokeSecurityGroupIngress", f"{EC2}:security-group/sg-app"),
    Call("ec2:RevokeSecurityGroupIngress", f"{EC2}:security-group/sg-gw"),
    Call(elb("CreateLoadBalancer"), f"{ELB}:loadbalancer/net/k8s-istioedg-tls-0123456789/*", request_tags=OURS),
    Call(elb("AddTags"), BALANCER, request_tags=OURS, context={elb("CreateAction"): "CreateLoadBalancer"}),
    Call(elb("ModifyLoadBalancerAttributes"), BALANCER, OURS),
    Call(elb("CreateTargetGroup"), f"{ELB}:targetgroup/k8s-istioedg-tls-0123456789/*", request_tags=OURS),
    Call(elb("AddTags"), TARGETS, request_tags=OURS, context={elb("CreateAction"): "CreateTargetGroup"}),
    Call(elb("ModifyTargetGroupAttributes"), TARGETS, OURS),
    Call(elb("CreateListener"), BALANCER, OURS, request_tags=OURS),
    Call(elb("AddTags"), LISTENER, request_tags=OURS, context={elb("CreateAction"): "CreateListener"}),
    Call(elb("ModifyListenerAttributes"), LISTENER, OURS),
    Call(elb("AddListenerCertificates"), LISTENER, OURS),
    Call(elb("RegisterTargets"), TARGETS, OURS),
    Call(elb("AddTags"), BALANCER, OURS, request_tags=MORE),
    Call(elb("RemoveTags"), LISTENER, OURS),
    Call("ec2:CreateTags", GROUP, OURS, request_tags=MORE),
    Call("ec2:DeleteTags", GROUP, OURS),
    Call(elb("ModifyListener"), LISTENER, OURS),
    Call(elb("ModifyTargetGroup"), TARGETS, OURS),
    Call(elb("ModifyCapacityReservation"), BALANCER, OURS),
    Call(elb("SetSubnets"), BALANCER, OURS),
    Call(elb("SetSecurityGroups"), BALANCER, OURS),
    Call(elb("SetIpAddressType"), BALANCER, OURS),
    Call(elb("RemoveListenerCertificates"), LISTENER, OURS),
    Call(elb("DeregisterTargets"), TARGETS, OURS),
    Call(elb("DeleteListener"), LISTENER, OURS),
    Call(elb("DeleteLoadBalancer"), BALANCER, OURS),
    Call(elb("DeleteTargetGroup"), TARGETS, OURS),
    Call("ec2:DeleteSecurityGroup", GROUP, OURS),
]
"""The calls that change something from a Service's creation to its deletion, with what IAM gets to see."""


def test_an_nlb_can_be_made_changed_and_deleted(program: Program) -> None:
    policy = statements(program.one(POLICY), "policy")
    assert [call for call in LIFE_OF_A_LOAD_BALANCER if not decided(policy, call)] == []
    assert {call.action for call in LIFE_OF_A_LOAD_BALANCER} == actions(WRITES)


OF_BALANCERS = {
    "elasticloadbalancing": """CreateLoadBalancer CreateListener AddTags RemoveTags ModifyLoadBalancerAttributes
        ModifyListenerAttributes AddListenerCertificates ModifyListener ModifyCapacityReservation SetSubnets
        SetSecurityGroups SetIpAddressType RemoveListenerCertificates DeleteListener DeleteLoadBalancer"""
}
"""Those of the calls whose resource says what kind of load balancer it is."""


def of_another_cluster(call: Call) -> Call:
    tags, request_tags = ({**tags, **OTHERS} if CLUSTER in tags else tags for tags in (call.tags, call.request_tags))
    return replace(call, tags=tags, request_tags=request_tags)


def of_nobody(call: Call) -> Call:
    return replace(call, tags={}, request_tags={})


def elsewhere(here: str, there: str) -> Callable[[Call], Call]:
    return lambda call: replace(call, resource=call.resource.replace(here, there))


@pytest.mark.parametrize(
    ("other", "refused"),
    [
        # A group's tags are asked for with the group; with the VPC that it is to be in, there is nothing to ask.
        pytest.param(of_another_cluster, actions(WRITES) - {"iam:CreateServiceLinkedRole"}, id="another cluster"),
        pytest.param(of_nobody, actions(WRITES) - {"iam:CreateServiceLinkedRole"}, id="nobody"),
        pytest.param(elsewhere("123456789012", "210987654321"), actions(WRITES), id="another account"),
        pytest.param(
            elsewhere("eu-central-1", "eu-west-1"),
            actions(WRITES) - {"iam:CreateServiceLinkedRole"},
            id="another region",
        ),
        pytest.param(
            elsewhere("/net/", "/app/"),
            actions(OF_BALANCERS),
            id="an application load balancer",
        ),
    ],
)
def test_the_same_calls_about_what_is_not_its_own(
    program: Program, other: Callable[[Call], Call], refused: set[str]
) -> None:
    policy = statements(program.one(POLICY), "policy")
    strange = [
        changed
        for call in LIFE_OF_A_LOAD_BALANCER
        if (changed := other(call)) != call and not (changed.resource == call.resource and ":vpc/" in call.resource)
    ]
    assert [call for call in strange if decided(policy, call)] == []
    assert {call.action for call in strange} == refused


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(
            Call("ec2:AuthorizeSecurityGroupIngress", f"{EC2}:security-group/sg-cp"), id="the control plane's"
        ),
        pytest.param(Call("ec2:AuthorizeSecurityGroupIngress", f"{EC2}:security-group/sg-database"), id="a database's"),
        pytest.param(Call("ec2:DeleteSecurityGroup", f"{EC2}:security-group/sg-app"), id="deleting the nodes' group"),
        pytest.param(Call("ec2:CreateSecurityGroup", f"{EC2}:vpc/vpc-2", request_tags=OURS), id="in another VPC"),
        # Else it could make anything its own, and then change it.
        pytest.param(
            Call("ec2:CreateTags", f"{EC2}:security-group/sg-database", request_tags=OURS), id="claiming a group"
        ),
        pytest.param(Call(elb("AddTags"), BALANCER, OTHERS, request_tags=OURS), id="claiming a balancer"),
        pytest.param(Call(elb("AddTags"), BALANCER, OURS, request_tags=OTHERS), id="giving away a balancer"),
        pytest.param(
            Call(
                "iam:CreateServiceLinkedRole",
                "arn:aws:iam::123456789012:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS",
                context={"iam:AWSServiceName": "eks.amazonaws.com"},
            ),
            id="another service's role",
        ),
    ],
)
def test_what_must_not_be_possible(program: Program, call: Call) -> None:
    assert not decided(statements(program.one(POLICY), "policy"), call)
