"""The EKS cluster, its nodes and its add-ons (row E1): every value, the order, the kubeconfig."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from components.cluster.eks_nodes import ZoneError
from settings import load
from tests.unit import sdk
from tests.unit.eks_layers import OPERATORS, UPSTREAM, config, made, said, statements
from tests.unit.program import Program, run

OPERATORS_LABEL = "eks-cluster-access-123456789012:role/operators"
POD_IDENTITY_AGENT = "eks-cluster-add-on-eks-pod-identity-agent"
NODES = "eks-cluster-application-nodes"
RELEASE = "eks-cluster-load-balancers-release"


@pytest.fixture(scope="module")
def program() -> Program:
    """The layer as it is by default."""
    return made("cluster")


def test_every_value_of_the_control_plane(program: Program) -> None:
    cluster = program.one("eks-cluster-cluster")
    assert cluster.inputs == {
        "name": "cluster1",
        "version": "1.34",
        "roleArn": "<arn eks-cluster-role>",
        "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False},
        "bootstrapSelfManagedAddons": False,
        "deletionProtection": True,
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "encryptionConfig": {"provider": {"keyArn": "<arn eks-cluster-secrets>"}, "resources": ["secrets"]},
        "kubernetesNetworkConfig": {"ipFamily": "ipv4", "serviceIpv4Cidr": "172.20.0.0/16"},
        "upgradePolicy": {"supportType": "STANDARD"},
        "vpcConfig": {
            "subnetIds": ["subnet-private-a", "subnet-private-b"],
            "securityGroupIds": ["sg-cp"],
            "endpointPrivateAccess": True,
            "endpointPublicAccess": False,
        },
    }


def test_every_value_around_the_control_plane(program: Program) -> None:
    """Its key, whose alias people find it by; its logs; its role."""
    assert program.one("eks-cluster-secrets").inputs == {
        "description": "Secrets of the EKS cluster cluster1",
        "enableKeyRotation": True,
        "deletionWindowInDays": 30,
    }
    assert program.one("eks-cluster-secrets-alias").inputs == {
        "name": "alias/eks/cluster1",
        "targetKeyId": "<id of the key>",
    }
    assert program.one("eks-cluster-logs").inputs == {"name": "/aws/eks/cluster1/cluster", "retentionInDays": 90}
    assert program.one("eks-cluster-role").inputs["description"] == "Control plane of the EKS cluster cluster1"
    assert statements(program.one("eks-cluster-role"), "assumeRolePolicy") == [
        {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    assert attached(program, "eks-cluster-role") == {"AmazonEKSClusterPolicy"}


def test_every_value_of_the_application_nodes(program: Program) -> None:
    nodes = program.one(NODES)
    assert nodes.inputs == {
        "clusterName": "cluster1",
        "nodeGroupName": "application",
        "nodeRoleArn": "<arn eks-cluster-application-role>",
        "subnetIds": ["subnet-private-a", "subnet-private-b"],
        "version": "1.34",
        "amiType": "AL2023_x86_64_STANDARD",
        "instanceTypes": ["m6i.large"],
        "capacityType": "ON_DEMAND",
        "launchTemplate": {"id": "eks-cluster-application-template-id", "version": "3"},
        "scalingConfig": {"minSize": 2, "maxSize": 4, "desiredSize": 2},
        "updateConfig": {"maxUnavailable": 1},
        "nodeRepairConfig": {"enabled": True},
    }
    assert nodes.ignored == ("scalingConfig.desiredSize",)


def test_every_value_of_the_launch_template(program: Program) -> None:
    """Pods get no credentials of the node: the metadata service wants a session and answers on the node only."""
    tags = {"Name": "eks-application", "meshgate.dev/environment": "eks"}
    assert program.one("eks-cluster-application-template").inputs == {
        "description": "Nodes of the group application of eks",
        "updateDefaultVersion": True,
        "vpcSecurityGroupIds": ["sg-app"],
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
            "instanceMetadataTags": "disabled",
        },
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {"volumeSize": 50, "volumeType": "gp3", "encrypted": "true", "deleteOnTermination": "true"},
            }
        ],
        "tagSpecifications": [
            {"resourceType": "instance", "tags": tags},
            {"resourceType": "volume", "tags": tags},
            {"resourceType": "network-interface", "tags": tags},
        ],
    }


def test_role_of_the_application_nodes(program: Program) -> None:
    role = program.one("eks-cluster-application-role")
    assert statements(role, "assumeRolePolicy") == [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ]
    # Not AmazonEKS_CNI_Policy: every pod with the node's network would have it.
    assert attached(program, "eks-cluster-application-role") == {
        "AmazonEKSWorkerNodePolicy",
        "AmazonEC2ContainerRegistryPullOnly",
    }
    assert statements(program.one("eks-cluster-application-role-image-cache"), "policy") == [
        {
            "Effect": "Allow",
            "Action": ["ecr:CreateRepository", "ecr:BatchImportUpstreamImage"],
            "Resource": "arn:aws:ecr:eu-central-1:*:repository/eks/*",
        }
    ]


def test_every_value_of_the_add_ons(program: Program) -> None:
    settings = {
        "clusterName": "cluster1",
        "resolveConflictsOnCreate": "OVERWRITE",
        "resolveConflictsOnUpdate": "OVERWRITE",
    }
    assert {add_on.inputs["addonName"]: add_on.inputs for add_on in program.of("eks/addon:Addon")} == {
        "vpc-cni": {
            **settings,
            "addonName": "vpc-cni",
            "configurationValues": json.dumps({"enableNetworkPolicy": "true"}),
            "podIdentityAssociations": [
                {"roleArn": "<arn eks-cluster-add-on-vpc-cni-role>", "serviceAccount": "aws-node"}
            ],
        },
        "kube-proxy": {**settings, "addonName": "kube-proxy"},
        "eks-pod-identity-agent": {**settings, "addonName": "eks-pod-identity-agent"},
        "coredns": {**settings, "addonName": "coredns"},
    }


def test_role_of_the_vpc_cni(program: Program) -> None:
    """For its service account in this cluster alone."""
    assert statements(program.one("eks-cluster-add-on-vpc-cni-role"), "assumeRolePolicy") == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {
                "StringEquals": {
                    "aws:RequestTag/eks-cluster-name": "cluster1",
                    "aws:RequestTag/kubernetes-namespace": "kube-system",
                    "aws:RequestTag/kubernetes-service-account": "aws-node",
                }
            },
        }
    ]
    assert attached(program, "eks-cluster-add-on-vpc-cni-role") == {"AmazonEKS_CNI_Policy"}


def test_web_identities_instead(program: Program) -> None:
    """IRSA: the cluster's issuer is made known to IAM, and the role is for the same service account."""
    irsa = made("cluster", identity="irsa")
    assert irsa.one("eks-cluster-issuer").inputs == {
        "url": "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE",
        "clientIdLists": ["sts.amazonaws.com"],
    }
    assert statements(irsa.one("eks-cluster-add-on-vpc-cni-role"), "assumeRolePolicy") == [
        {
            "Effect": "Allow",
            "Principal": {"Federated": "<arn eks-cluster-issuer>"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE:aud": "sts.amazonaws.com",
                    "oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE:sub": "system:serviceaccount:kube-system:aws-node",
                }
            },
        }
    ]
    cni = irsa.one("eks-cluster-add-on-vpc-cni").inputs
    assert cni["serviceAccountRoleArn"] == "<arn eks-cluster-add-on-vpc-cni-role>"
    assert "podIdentityAssociations" not in cni
    # With Pod Identity there is no issuer to trust.
    assert program.of("iam/openIdConnectProvider:OpenIdConnectProvider") == []


def test_access(program: Program) -> None:
    assert program.one(OPERATORS_LABEL).inputs == {
        "clusterName": "cluster1",
        "principalArn": OPERATORS,
        "type": "STANDARD",
    }
    assert program.one(f"{OPERATORS_LABEL}-cluster-admin").inputs == {
        "clusterName": "cluster1",
        "principalArn": OPERATORS,
        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
        "accessScope": {"type": "cluster"},
    }


def test_access_to_namespaces() -> None:
    """A principal has one entry, whatever number of policies."""
    program = made(
        "cluster",
        creatorIsAdministrator=True,
        access=[
            {"principal": OPERATORS, "policy": "view"},
            {"principal": OPERATORS, "policy": "admin", "namespaces": ["istio-system", "istio-edge"]},
            {"principal": "arn:aws:iam::123456789012:user/path/jo", "policy": "edit", "namespaces": ["edge-demo"]},
        ],
    )
    assert program.one("eks-cluster-cluster").inputs["accessConfig"] == {
        "authenticationMode": "API",
        "bootstrapClusterCreatorAdminPermissions": True,
    }
    entries = [entry.inputs["principalArn"] for entry in program.of("eks/accessEntry:AccessEntry")]
    assert entries == [OPERATORS, "arn:aws:iam::123456789012:user/path/jo"]
    granted = {
        (one.inputs["principalArn"].rpartition("/")[2], one.inputs["policyArn"].rpartition("/")[2]): one.inputs[
            "accessScope"
        ]
        for one in program.of("eks/accessPolicyAssociation:AccessPolicyAssociation")
    }
    assert granted == {
        ("operators", "AmazonEKSViewPolicy"): {"type": "cluster"},
        ("operators", "AmazonEKSAdminPolicy"): {"type": "namespace", "namespaces": ["istio-system", "istio-edge"]},
        ("jo", "AmazonEKSEditPolicy"): {"type": "namespace", "namespaces": ["edge-demo"]},
    }


def test_roles_get_names_that_fit(program: Program) -> None:
    """IAM takes 64 characters; Pulumi adds 8 to the resource's name, and an environment's name has up to 20."""
    roles = [role.name.removeprefix("eks") for role in program.of("iam/role:Role")]
    assert len(roles) == 4
    assert max(len(role) for role in roles) + 20 + 8 <= 64


def test_order(program: Program) -> None:
    """On the way up; on the way down it is the other way round."""

    def before(name: str) -> set[str]:
        return program.one(name).dependencies

    assert {"eks-cluster-logs", "eks-cluster-role-AmazonEKSClusterPolicy"} <= before("eks-cluster-cluster")
    assert "eks-cluster-add-on-vpc-cni-role-AmazonEKS_CNI_Policy" in before("eks-cluster-add-on-vpc-cni")
    assert POD_IDENTITY_AGENT in before("eks-cluster-add-on-vpc-cni")
    # Without what runs on every node a node never gets ready; without its policies it does not join.
    assert {
        "eks-cluster-add-on-kube-proxy",
        POD_IDENTITY_AGENT,
        "eks-cluster-application-role-AmazonEKSWorkerNodePolicy",
        "eks-cluster-application-role-AmazonEC2ContainerRegistryPullOnly",
        "eks-cluster-application-role-image-cache",
    } <= before(NODES)
    assert NODES in before("eks-cluster-add-on-coredns")
    # The controller needs nodes, names and the right to be there.
    assert {NODES, "eks-cluster-add-on-coredns", f"{OPERATORS_LABEL}-cluster-admin"} <= before("eks-cluster-kubernetes")
    assert program.one(RELEASE).provider == "eks-cluster-kubernetes"


def test_layers_above_come_after_the_controller() -> None:
    """Their Services go before it: it takes their load balancers away, while nodes and subnets are there."""
    whole = config("cluster")
    whole |= {"layers": ["cluster", "authority"], "authority": {"kind": "self-signed"}}
    program = run(whole, stack="eks", references={"base": UPSTREAM})
    above = program.one("eks-kubernetes")
    assert {RELEASE, NODES, "eks-cluster-add-on-coredns"} <= above.dependencies
    assert above.inputs["clusterIdentifier"] == "arn:aws:eks:eu-central-1:123456789012:cluster/cluster1"
    assert [one.name for one in program.of(":Namespace") if one.provider != "eks-kubernetes"] == []
    assert program.of(":Namespace")


def test_kubeconfig_holds_no_credentials(program: Program) -> None:
    kubeconfig = yaml.safe_load(program.outputs["cluster_kubeconfig"])
    assert kubeconfig == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "cluster1", "cluster": {"server": "https://<endpoint>", "certificate-authority-data": "<CA>"}}
        ],
        "users": [
            {
                "name": "cluster1",
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "aws",
                        "args": [
                            *("eks", "get-token", "--cluster-name", "cluster1"),
                            *("--region", "eu-central-1", "--output", "json"),
                        ],
                        "installHint": kubeconfig["users"][0]["user"]["exec"]["installHint"],
                        "interactiveMode": "Never",
                    }
                },
            }
        ],
        "contexts": [{"name": "cluster1", "context": {"cluster": "cluster1", "user": "cluster1"}}],
        "current-context": "cluster1",
    }
    assert program.one("eks-cluster-kubernetes").inputs["kubeconfig"] == program.outputs["cluster_kubeconfig"]
    assert program.one("eks-cluster-kubernetes").secrets == {"kubeconfig"}


def test_contract(program: Program) -> None:
    handed = dict(program.outputs)
    del handed["cluster_kubeconfig"]
    assert handed == {
        "cluster_contract": 1,
        "cluster_identifier": "arn:aws:eks:eu-central-1:123456789012:cluster/cluster1",
        "cluster_pod_cidr": "10.0.0.0/16",
        "cluster_service_cidr": "172.20.0.0/16",
        "cluster_name": "cluster1",
        "cluster_location": "eu-central-1",
    }
    assert program.secret_outputs == {"cluster_kubeconfig"}


def test_inputs_are_what_the_sdk_asks_for(program: Program) -> None:
    for one in (program, made("cluster", identity="irsa")):
        wrong = [
            problem
            for resource in one.resources
            if not resource.read and not resource.type.startswith("meshgate:")
            for problem in sdk.problems(resource.type, resource.inputs)
        ]
        assert wrong == []
        assert {resource.provider for resource in one.resources if resource.type.startswith("aws:")} == {"eks-aws"}


def test_what_must_not_be_lost_is_protected(program: Program) -> None:
    """The cluster, and the key without which its data cannot be read."""
    kept = {**config("cluster"), "protect": True}
    protected = {one.name for one in run(kept, stack="eks", references={"base": UPSTREAM}).resources if one.protect}
    assert protected == {"eks-cluster-cluster", "eks-cluster-secrets"}
    assert [one.name for one in program.resources if one.protect] == []


def test_further_settings() -> None:
    program = made(
        "cluster",
        name="edge",
        version="1.33",
        upgradePolicy="EXTENDED",
        serviceCidr="10.100.0.0/20",
        deletionProtection=False,
        endpoint={"public": True, "allowed": ["203.0.113.10/32", "198.51.100.0/24"]},
        logs={"types": ["audit"], "retentionDays": 365},
        applicationNodes={
            "name": "workers",
            "instanceTypes": ["m7g.large", "m6g.large"],
            "architecture": "arm64",
            "nodes": {"min": 1, "max": 9},
            "zones": ["eu-central-1b"],
            "disk": 100,
        },
        addOnVersions={"vpc-cni": "v1.20.0-eksbuild.1"},
    )
    cluster = program.one("eks-cluster-cluster").inputs
    assert (cluster["name"], cluster["version"], cluster["deletionProtection"]) == ("edge", "1.33", False)
    assert cluster["upgradePolicy"] == {"supportType": "EXTENDED"}
    assert cluster["kubernetesNetworkConfig"]["serviceIpv4Cidr"] == "10.100.0.0/20"
    assert cluster["enabledClusterLogTypes"] == ["audit"]
    assert cluster["vpcConfig"] == {
        # The control plane is in every zone, wherever nodes are.
        "subnetIds": ["subnet-private-a", "subnet-private-b"],
        "securityGroupIds": ["sg-cp"],
        "endpointPrivateAccess": True,
        "endpointPublicAccess": True,
        "publicAccessCidrs": ["203.0.113.10/32", "198.51.100.0/24"],
    }
    assert program.one("eks-cluster-logs").inputs == {"name": "/aws/eks/edge/cluster", "retentionInDays": 365}
    assert program.one("eks-cluster-secrets-alias").inputs["name"] == "alias/eks/edge"
    nodes = program.one(NODES).inputs
    assert (nodes["nodeGroupName"], nodes["amiType"]) == ("workers", "AL2023_ARM_64_STANDARD")
    assert nodes["instanceTypes"] == ["m7g.large", "m6g.large"]
    assert nodes["scalingConfig"] == {"minSize": 1, "maxSize": 9, "desiredSize": 1}
    assert (nodes["subnetIds"], nodes["version"]) == (["subnet-private-b"], "1.33")
    template = program.one("eks-cluster-application-template").inputs
    assert template["blockDeviceMappings"][0]["ebs"]["volumeSize"] == 100
    versions = {one.inputs["addonName"]: one.inputs.get("addonVersion") for one in program.of("eks/addon:Addon")}
    assert versions == {
        "vpc-cni": "v1.20.0-eksbuild.1",
        "kube-proxy": None,
        "coredns": None,
        "eks-pod-identity-agent": None,
    }


def test_zone_without_subnet_in_another_stack() -> None:
    with pytest.raises(ZoneError) as error:
        made("cluster", applicationNodes={"zones": ["eu-central-1c"]})
    assert str(error.value) == (
        "node group 'application' is to be in the zone 'eu-central-1c', where the network has no subnet "
        "(it has: eu-central-1a, eu-central-1b); take it out of `zones`, or add it to the network's"
    )


def attached(program: Program, role: str) -> set[str]:
    """Names of AWS's policies that the role has."""
    arns = [
        one.inputs["policyArn"]
        for one in program.of("iam/rolePolicyAttachment:RolePolicyAttachment")
        if one.inputs["role"] == f"{role}-name"
    ]
    assert all(arn.startswith("arn:aws:iam::aws:policy/") for arn in arns)
    return {arn.rpartition("/")[2] for arn in arns}


# Settings


def test_defaults_load() -> None:
    load(config("cluster"))


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        (
            {"version": "1.34.2"},
            "version",
            "is '1.34.2'; it must be a Kubernetes minor version in quotes, for example '1.34'",
        ),
        # YAML reads 1.30 as a number: it would be 1.3.
        ({"version": 1.34}, "version", "is 1.34; it must be text, in quotes where YAML reads something else"),
        (
            {"name": "-cluster"},
            "name",
            "is '-cluster'; it must be at most 100 letters, digits, '-' and '_', no '-' or '_' first",
        ),
        (
            {"endpoint": {"public": True}},
            "endpoint.allowed",
            "is empty; a public address needs to know who may use it",
        ),
        (
            {"endpoint": {"allowed": ["203.0.113.10/32"]}},
            "endpoint.allowed",
            "is for the public address, and public is false; take it out, or set public",
        ),
        (
            {"endpoint": {"public": True, "allowed": ["203.0.113.10/32", "0.0.0.0/0"]}},
            "endpoint.allowed[1]",
            "is everybody; name the networks",
        ),
        # Two halves of the internet are everybody, too.
        (
            {"endpoint": {"public": True, "allowed": ["128.0.0.0/1"]}},
            "endpoint.allowed[0]",
            "is 128.0.0.0/1, wider than a /8; name the networks",
        ),
        (
            {"endpoint": {"public": True, "allowed": ["10.0.0.0/16"]}},
            "endpoint.allowed[0]",
            "is 10.0.0.0/16, which overlaps 10.0.0.0/8: nobody comes to a public address from there; "
            "give the addresses that the internet sees",
        ),
        (
            {"endpoint": {"public": True, "allowed": ["203.0.113.10/32", "203.0.113.10/32"]}},
            "endpoint.allowed",
            "'203.0.113.10/32' is there 2 times; name each once",
        ),
        (
            {"serviceCidr": "100.64.0.0/16"},
            "serviceCidr",
            "is 100.64.0.0/16, which EKS does not take; use a part of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16",
        ),
        ({"serviceCidr": "10.100.0.0/25"}, "serviceCidr", "is 10.100.0.0/25; EKS takes a /12 to a /24"),
        (
            {"serviceCidr": "172.17.0.0/20"},
            "serviceCidr",
            "172.17.0.0/20 overlaps 172.17.0.0/16, which Docker uses on nodes",
        ),
        (
            {"access": []},
            "access",
            "gives nobody cluster-admin, and the creator is no administrator: nothing could be set up in the cluster; "
            "name the role that `pulumi up` runs with, or set creatorIsAdministrator",
        ),
        (
            {"creatorIsAdministrator": True, "access": [{"principal": OPERATORS, "namespaces": ["a"]}]},
            "access[0].policy",
            "is cluster-admin, for the whole cluster only; in namespaces use admin",
        ),
        (
            {"access": [{"principal": OPERATORS}, {"principal": OPERATORS}]},
            "access",
            f"'{OPERATORS}' has cluster-admin 2 times; give it once, with all the namespaces",
        ),
        (
            {"access": [{"principal": "arn:aws:sts::123456789012:assumed-role/operators/jo"}]},
            "access[0].principal",
            "is 'arn:aws:sts::123456789012:assumed-role/operators/jo'; it must be the ARN of an IAM role or user "
            "(not of a session), for example arn:aws:iam::123456789012:role/operators",
        ),
        ({"logs": {"types": ["audit", "audit"]}}, "logs.types", "'audit' is there 2 times; name each once"),
        (
            {"applicationNodes": {"nodes": {"min": 6, "max": 5}}},
            "applicationNodes.nodes.min",
            "is 6, more than max (5)",
        ),
        (
            {"applicationNodes": {"zones": ["eu-central-1a", "eu-central-1a"]}},
            "applicationNodes.zones",
            "'eu-central-1a' is there 2 times; name each once",
        ),
        (
            {"applicationNodes": {"instanceTypes": ["m7g.large"]}},
            "applicationNodes.instanceTypes[0]",
            "'m7g.large' is arm64, but architecture is x86_64; they must agree",
        ),
        (
            {"applicationNodes": {"instanceTypes": ["m6g.large", "m6i.large"], "architecture": "arm64"}},
            "applicationNodes.instanceTypes[1]",
            "'m6i.large' is x86_64, but architecture is arm64; they must agree",
        ),
        (
            {"addOnVersions": {"vpc-cni": "1.20.0"}},
            "addOnVersions.vpc-cni",
            "is '1.20.0'; it must be an add-on's version, like v1.20.0-eksbuild.1",
        ),
        (
            {"loadBalancerController": {"version": "2.13.0"}},
            "loadBalancerController.version",
            "is '2.13.0'; it must be 3.5.x: the IAM policy is known for the calls of that version of the controller",
        ),
        (
            {"loadBalancerController": {"charts": "http://charts"}},
            "loadBalancerController.charts",
            "is 'http://charts'; it must be https://..., oci://... or the path of a directory",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], key: str, message: str) -> None:
    assert said(config("cluster", **settings)) == {f"cluster.{key}": message}


@pytest.mark.parametrize("instance_type", ["g5.xlarge", "g4dn.xlarge", "m7i-flex.large", "t3.large", "i7ie.large"])
def test_not_every_g_is_an_arm(instance_type: str) -> None:
    load(config("cluster", applicationNodes={"instanceTypes": [instance_type]}))


@pytest.mark.parametrize("instance_type", ["g5g.xlarge", "c7gn.large", "im4gn.large", "a1.large", "t4g.small"])
def test_arms(instance_type: str) -> None:
    load(config("cluster", applicationNodes={"instanceTypes": [instance_type], "architecture": "arm64"}))


def test_several_problems_at_once() -> None:
    wrong = config(
        "cluster", serviceCidr="10.0.0.0/8", endpoint={"public": True}, applicationNodes={"nodes": {"min": 9, "max": 1}}
    )
    assert list(said(wrong)) == [
        "cluster.endpoint.allowed",
        "cluster.applicationNodes.nodes.min",
        "cluster.serviceCidr",
    ]
