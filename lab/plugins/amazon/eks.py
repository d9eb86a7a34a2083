"""EKS: clusters, node groups, add-ons, access, pod identities; and ECR's pull-through caches.

A cluster is the lab's own API server. Stricter than the cloud, so that a wrong order shows: what belongs to a cluster
keeps it in use, a node group keeps its launch template, and everything its role.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network
from typing import Any

from lab import pki
from lab.instance import Instance
from lab.plugins.amazon import balancers
from lab.plugins.amazon.common import arn, derived, find, listed, refused, trusts
from lab.plugins.amazon.ec2 import Peer, allowed, unreached
from lab.plugins.amazon.iam import MANAGED, attached, control_plane_logs
from lab.plugins.amazon.tokens import (
    ACCESS_ENTRY,
    ACCESS_POLICY,
    ADDON,
    CACHE_RULE,
    CACHE_TEMPLATE,
    CLUSTER,
    KEY,
    LAUNCH_TEMPLATE,
    LOG_GROUP,
    NETWORK_INTERFACE,
    NODE_GROUP,
    POD_IDENTITY,
    REPOSITORY,
    ROLE,
    SECURITY_GROUP,
    SUBNET,
    VPC,
)
from lab.plugins.base import Plain, PluginError
from lab.plugins.cloud import Kind, digits
from lab.plugins.store import Record, World
from lab.topology import API_PORT, CONTROL_PLANE

VERSIONS = tuple(f"1.{minor}" for minor in range(30, 37))
DEFAULT_VERSION = "1.34"
ADD_ONS = {
    "coredns": "v1.12.4-eksbuild.1",
    "eks-pod-identity-agent": "v1.3.10-eksbuild.2",
    "kube-proxy": "v{version}.1-eksbuild.2",
    "vpc-cni": "v1.20.4-eksbuild.2",
    "aws-ebs-csi-driver": "v1.50.1-eksbuild.1",
    "metrics-server": "v0.8.0-eksbuild.3",
}
"""Add-ons and the versions that EKS takes where none is asked for."""

CONFIGURATIONS = {
    "vpc-cni": {
        *("additionalLabels", "affinity", "cniConfig", "enableNetworkPolicy", "enableWindowsIpam"),
        *("enableWindowsPrefixDelegation", "env", "eniConfig", "extraVolumeMounts", "extraVolumes", "init"),
        *("livenessProbe", "livenessProbeTimeoutSeconds", "nodeAgent", "nodeSelector", "podAnnotations", "podLabels"),
        *("priorityClassName", "readinessProbe", "readinessProbeTimeoutSeconds", "resources", "tolerations"),
        "updateStrategy",
    },
    "coredns": {
        *("affinity", "autoScaling", "computeType", "corefile", "nodeSelector", "podAnnotations", "podLabels"),
        *("podDisruptionBudget", "priorityClassName", "replicaCount", "resources", "tolerations"),
        "topologySpreadConstraints",
    },
}
"""The settings of add-ons that the simulation knows."""

ACCESS_POLICIES = {
    f"arn:aws:eks::aws:cluster-access-policy/AmazonEKS{name}Policy"
    for name in ("ClusterAdmin", "Admin", "AdminView", "Edit", "View")
}

NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEKSWorkerNodeMinimalPolicy")
REGISTRY_POLICIES = ("AmazonEC2ContainerRegistryPullOnly", "AmazonEC2ContainerRegistryReadOnly")
CNI_POLICY = "AmazonEKS_CNI_Policy"
NODES_CALL = ("ec2", "ecr.api", "ecr.dkr", "s3", "sts")
"""What a node calls before it is ready."""


# --- clusters ---


def _cluster(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        _cluster_goes(world, record)
        return
    config, region = record.inputs["vpcConfig"], record.outputs["region"]
    role = find(world, ROLE, record.inputs["roleArn"])
    if not trusts(role, "eks.amazonaws.com"):
        raise refused(
            "InvalidParameterException", "Role could not be assumed because the trusted entity is not correct"
        )
    if f"{MANAGED}AmazonEKSClusterPolicy" not in attached(world, role):
        raise refused(
            "InvalidParameterException",
            "The provided role doesn't have the Amazon EKS Managed Policies associated with it. Please ensure the "
            "following policy is attached: AmazonEKSClusterPolicy",
        )
    subnets = [find(world, SUBNET, one) for one in config["subnetIds"]]
    if len({subnet.outputs["availabilityZone"] for subnet in subnets}) < 2:
        raise refused("InvalidParameterException", "Subnets specified must be in at least two different AZs")
    if len({subnet.inputs["vpcId"] for subnet in subnets}) > 1:
        raise refused("InvalidParameterException", "Subnets specified must belong to the same VPC")
    vpc = find(world, VPC, subnets[0].inputs["vpcId"])
    for group in listed(config.get("securityGroupIds")):
        if find(world, SECURITY_GROUP, group).inputs["vpcId"] != vpc.id:
            raise refused("InvalidParameterException", f"Security group {group} does not belong to the VPC {vpc.id}")
    if not (config.get("endpointPrivateAccess") or config.get("endpointPublicAccess", True)):
        raise refused("InvalidParameterException", "Private and public endpoint access cannot both be disabled.")
    if config.get("endpointPrivateAccess") and not vpc.inputs.get("enableDnsHostnames"):
        raise refused(
            "InvalidParameterException", f"Private access needs DNS hostnames, which {vpc.id} has not enabled"
        )
    _services(record, vpc)
    _version(world, record)
    record.outputs["vpcConfig"]["vpcId"] = vpc.id
    if operation == "create":
        group = {"vpcId": vpc.id, "name": f"eks-cluster-sg-{record.id}", "description": "EKS created security group"}
        part = Record(SECURITY_GROUP, cluster_group(record), group, dict(group), part_of=record.key)
        world.records[part.key] = part
        logs = control_plane_logs(record)
        if record.inputs.get("enabledClusterLogTypes") and not any(one.id == logs for one in world.of(LOG_GROUP)):
            account = record.outputs["arn"].split(":")[4]
            # Nobody's: it stays when the cluster goes.
            own = Record(LOG_GROUP, logs, {"name": logs}, {"arn": f"arn:aws:logs:{region}:{account}:log-group:{logs}"})
            world.records[own.key] = own


def cluster_group(cluster: Record) -> str:
    """The id of the security group that EKS makes for a cluster."""
    return _cluster_group(cluster.id, cluster.outputs["region"])


def _cluster_group(name: str, region: str) -> str:
    return derived("sg", name, region, "cluster")


def _services(cluster: Record, vpc: Record) -> None:
    services = (cluster.inputs.get("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr")
    if (
        services
        and vpc.inputs.get("cidrBlock")
        and IPv4Network(services).overlaps(IPv4Network(vpc.inputs["cidrBlock"]))
    ):
        raise refused(
            "InvalidParameterException",
            f"The service CIDR {services} conflicts with the VPC's {vpc.inputs['cidrBlock']}",
        )


def _version(world: World, cluster: Record) -> None:
    wanted = cluster.inputs.get("version", DEFAULT_VERSION)
    if wanted not in VERSIONS:
        raise refused("InvalidParameterException", f"unsupported Kubernetes version {wanted}")
    before = next((one.outputs["version"] for one in world.of(CLUSTER) if one.id == cluster.id), wanted)
    step = VERSIONS.index(wanted) - VERSIONS.index(before)
    if step not in (0, 1):
        raise refused(
            "InvalidParameterException", f"Unsupported Kubernetes minor version update from {before} to {wanted}"
        )


def _cluster_goes(world: World, record: Record) -> None:
    if record.outputs.get("deletionProtection"):
        raise refused(
            "InvalidRequestException",
            f"Cluster {record.id} has deletion protection enabled. Disable deletion protection and try again.",
        )
    parts = record.outputs["arn"].split(":")
    for left in balancers.left_behind(world, parts[4], parts[3]):
        world.records[left.key] = left
    role = find(world, ROLE, record.inputs["roleArn"])
    if f"{MANAGED}AmazonEKSClusterPolicy" not in attached(world, role):
        # Without its policy EKS cannot take its network interfaces away.
        for subnet in record.inputs["vpcConfig"]["subnetIds"]:
            given = {"subnetId": subnet, "description": f"Amazon EKS {record.id}"}
            eni = Record(NETWORK_INTERFACE, derived("eni", record.id, subnet), given, {})
            world.records[eni.key] = eni


def _endpoint(_: Mapping[str, Any]) -> Plain:
    return f"https://{CONTROL_PLANE}:{API_PORT}"


def _certificate(_: Mapping[str, Any]) -> Plain:
    authority = pki.cluster_authority(Instance(os.environ["MESHGATE_LAB"]))
    return base64.b64encode(authority.certificate.read_bytes()).decode()


def _identities(values: Mapping[str, Any]) -> Plain:
    number = derived("", values["id"], values["account"], values["region"], "oidc")[2:].upper()
    return [{"oidcs": [{"issuer": f"https://oidc.eks.{values['region']}.amazonaws.com/id/{number * 2}"}]}]


# --- what runs in clusters ---


def _node_group(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs, cluster = record.inputs, find(world, CLUSTER, record.inputs["clusterName"])
    role = find(world, ROLE, inputs["nodeRoleArn"])
    if not trusts(role, "ec2.amazonaws.com"):
        raise refused(
            "InvalidParameterException",
            "Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of "
            f"nodeRole {inputs['nodeRoleArn']}",
        )
    subnets = [find(world, SUBNET, one) for one in inputs["subnetIds"]]
    if not subnets:
        raise refused("InvalidParameterException", "Subnets cannot be empty")
    for subnet in subnets:
        if subnet.inputs["vpcId"] != cluster.outputs["vpcConfig"]["vpcId"]:
            raise refused("InvalidParameterException", f"The subnet {subnet.id} is not in the cluster's VPC")
    scaling = inputs["scalingConfig"]
    if not scaling["minSize"] <= scaling["desiredSize"] <= scaling["maxSize"]:
        raise refused("InvalidParameterException", "desired capacity must be between the minimum and the maximum size")
    version, current = inputs.get("version", cluster.outputs["version"]), cluster.outputs["version"]
    if version not in VERSIONS or VERSIONS.index(version) > VERSIONS.index(current):
        raise refused(
            "InvalidParameterException",
            f"Nodegroup Kubernetes version {version} must not be newer than the cluster's {current}",
        )
    record.outputs["version"] = version
    record.outputs["releaseVersion"] = inputs.get("releaseVersion", f"{version}.1-20261101")
    template = _launch_template(world, inputs)
    if operation == "create":
        _join(world, record, cluster, role, template, subnets)
        _node_access(world, record, cluster)


def _launch_template(world: World, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    given = inputs.get("launchTemplate")
    if not given:
        return {}
    template = next(
        one
        for one in world.of(LAUNCH_TEMPLATE)
        if one.id == given.get("id") or one.outputs["name"] == given.get("name")
    )
    if not 1 <= int(float(given["version"])) <= template.outputs["latestVersion"]:
        raise refused("InvalidRequestException", f"Launch template {template.id} has no version {given['version']}")
    for property_, beside, words in (
        (None, "diskSize", "Disk size must be specified within the launch template."),
        (None, "remoteAccess", "Remote access configuration cannot be specified with a launch template."),
        (
            "instanceType",
            "instanceTypes",
            "Instance types must be specified in the launch template or the node group, not in both.",
        ),
        (
            "imageId",
            "amiType",
            "You cannot specify an AMI type when specifying an image id within the launch template.",
        ),
        (
            "imageId",
            "releaseVersion",
            "You cannot specify a release version with an image id within the launch template.",
        ),
    ):
        if inputs.get(beside) and (property_ is None or template.inputs.get(property_)):
            raise refused("InvalidParameterException", words)
    if template.inputs.get("iamInstanceProfile"):
        raise refused("InvalidParameterException", "Launch templates of node groups cannot have an instance profile.")
    return template.inputs


def _join(
    world: World, record: Record, cluster: Record, role: Record, template: Mapping[str, Any], subnets: list[Record]
) -> None:
    """Whether the nodes could start, get their images, and reach the control plane. Raises PluginError."""
    policies = {policy.removeprefix(MANAGED) for policy in attached(world, role)}
    add_ons = {
        one.inputs["addonName"]: one.inputs for one in world.of(ADDON) if one.inputs["clusterName"] == cluster.id
    }
    own_groups = template.get("vpcSecurityGroupIds") or [
        group for card in listed(template.get("networkInterfaces")) for group in listed(card.get("securityGroups"))
    ]
    groups = own_groups or [cluster_group(cluster)]
    control = [cluster_group(cluster), *listed(cluster.inputs["vpcConfig"].get("securityGroupIds"))]
    places = [find(world, SUBNET, one).inputs["cidrBlock"] for one in cluster.inputs["vpcConfig"]["subnetIds"]]

    def problems() -> list[str]:
        found = []
        if not policies & set(NODE_POLICIES):
            found.append(f"the node role has no {NODE_POLICIES[0]}")
        if not policies & set(REGISTRY_POLICIES):
            found.append(f"the node role has no {REGISTRY_POLICIES[0]}")
        if cluster.inputs.get("bootstrapSelfManagedAddons") is False and "vpc-cni" not in add_ons:
            found.append("the cluster has no vpc-cni")
        cni = add_ons.get("vpc-cni", {})
        if CNI_POLICY not in policies and not (cni.get("serviceAccountRoleArn") or cni.get("podIdentityAssociations")):
            found.append(f"neither the node role nor vpc-cni has {CNI_POLICY}")
        if cni.get("podIdentityAssociations") and "eks-pod-identity-agent" not in add_ons:
            found.append("vpc-cni has a pod identity, but there is no eks-pod-identity-agent")
        if not allowed(world, groups, "egress", 443, Peer(control, places)):
            found.append(f"the security groups {', '.join(groups)} do not let nodes call the control plane")
        for subnet in subnets:
            if not allowed(world, control, "ingress", 443, Peer(groups, [subnet.inputs["cidrBlock"]])):
                found.append(f"the security groups {', '.join(control)} do not let nodes in {subnet.id} in on 443")
            called = [*NODES_CALL, *(["eks-auth"] if cni.get("podIdentityAssociations") else [])]
            if missing := unreached(world, subnet, groups, called):
                found.append(
                    f"from {subnet.id} there is no way to {', '.join(missing)}: NAT or endpoints, security groups"
                )
        return found

    if found := problems():
        raise PluginError(
            f"waiting for EKS Node Group ({record.id}) create: unexpected state 'CREATE_FAILED', wanted target "
            f"'ACTIVE'. last error: {derived('i', record.id)}: NodeCreationFailure: Instances failed to join the "
            f"kubernetes cluster ({'; '.join(found)})"
        )


def _node_access(world: World, record: Record, cluster: Record) -> None:
    """EKS lets the nodes in, unless somebody did."""
    principal = record.inputs["nodeRoleArn"]
    entry = Record(
        ACCESS_ENTRY,
        f"{cluster.id}:{principal}",
        {"clusterName": cluster.id, "principalArn": principal, "type": "EC2_LINUX"},
        {},
        part_of=record.key,
    )
    world.records.setdefault(entry.key, entry)


def default_version(add_on: str, cluster_version: str) -> str:
    """The version of an add-on that EKS takes for a cluster's version. Raises PluginError for one that it has not."""
    if add_on not in ADD_ONS:
        raise refused("InvalidParameterException", f"Addon {add_on} specified is not supported")
    return ADD_ONS[add_on].format(version=cluster_version)


def _add_on(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs, cluster = record.inputs, find(world, CLUSTER, record.inputs["clusterName"])
    name, default = inputs["addonName"], default_version(inputs["addonName"], cluster.outputs["version"])
    version = inputs.get("addonVersion", default)
    if not re.fullmatch(r"v[0-9]+\.[0-9]+\.[0-9]+-eksbuild\.[0-9]+", version):
        raise refused("InvalidParameterException", f"Addon version specified is not supported ({name} {version})")
    if name == "kube-proxy" and not version.startswith(f"v{cluster.outputs['version']}."):
        raise refused("InvalidParameterException", f"Addon version specified is not supported ({name} {version})")
    record.outputs["addonVersion"] = version
    _configuration(name, inputs.get("configurationValues"))
    for association in listed(inputs.get("podIdentityAssociations")):
        _trusted_by_pods(world, association["roleArn"])
    nodes = any(one.inputs["clusterName"] == cluster.id for one in world.of(NODE_GROUP))
    if operation == "create" and name in ("coredns", "metrics-server", "aws-ebs-csi-driver") and not nodes:
        raise PluginError(
            f"waiting for EKS Add-On ({record.id}) create: unexpected state 'DEGRADED', wanted target 'ACTIVE'. last "
            "error: InsufficientNumberOfReplicas: The add-on is unhealthy because it doesn't have the desired number "
            "of replicas. (the cluster has no nodes)"
        )


def _trusted_by_pods(world: World, role: str) -> None:
    actions = ("sts:AssumeRole", "sts:TagSession")
    if not trusts(find(world, ROLE, role), "pods.eks.amazonaws.com", actions):
        raise refused(
            "InvalidParameterException",
            f"Trust policy of role {role} is invalid: pods.eks.amazonaws.com must be let do {' and '.join(actions)}",
        )


def _configuration(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        values = json.loads(text)
    except ValueError:
        raise refused("InvalidParameterException", "ConfigurationValue provided in request is not JSON") from None
    unknown = sorted(values.keys() - CONFIGURATIONS[name]) if name in CONFIGURATIONS else []
    wrong = [f"additional property {key} is not allowed" for key in unknown]
    if not isinstance(values.get("enableNetworkPolicy", ""), str):
        wrong.append("enableNetworkPolicy: is no string")
    if wrong:
        raise refused(
            "InvalidParameterException",
            "ConfigurationValue provided in request is not supported: Json schema validation failed with error: "
            f"[{', '.join(wrong)}] ({name})",
        )


def _access_mode(world: World, cluster: str) -> None:
    config = find(world, CLUSTER, cluster).inputs.get("accessConfig") or {}
    if config.get("authenticationMode", "CONFIG_MAP") not in ("API", "API_AND_CONFIG_MAP"):
        raise refused(
            "InvalidRequestException",
            "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this "
            "operation.",
        )


def _access_entry(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    _access_mode(world, record.inputs["clusterName"])
    if not re.fullmatch(r"arn:aws:iam::[0-9]{12}:(role|user)/.+", record.inputs["principalArn"]):
        raise refused("InvalidParameterException", "The specified principalArn is invalid: invalid principal")
    if record.inputs.get("type", "STANDARD") != "STANDARD" and record.inputs.get("kubernetesGroups"):
        raise refused("InvalidRequestException", "Kubernetes groups are for entries of the type STANDARD alone")


def _access_policy(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs = record.inputs
    _access_mode(world, inputs["clusterName"])
    if inputs["policyArn"] not in ACCESS_POLICIES:
        raise refused(
            "InvalidParameterException", f"The policyArn parameter format is not valid ({inputs['policyArn']})"
        )
    if not any(one.id == f"{inputs['clusterName']}:{inputs['principalArn']}" for one in world.of(ACCESS_ENTRY)):
        raise refused(
            "ResourceNotFoundException",
            "The specified principalArn could not be found. You can view your available access entries with 'aws eks "
            "list-access-entries'.",
        )
    scope = inputs["accessScope"]
    if (scope["type"] == "namespace") != bool(scope.get("namespaces")):
        raise refused("InvalidParameterException", "The access scope of type namespace, and no other, has namespaces")


def _pod_identity(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    inputs = record.inputs
    _trusted_by_pods(world, inputs["roleArn"])
    agents = (one.inputs for one in world.of(ADDON) if one.inputs["addonName"] == "eks-pod-identity-agent")
    if not any(agent["clusterName"] == inputs["clusterName"] for agent in agents):
        raise refused(
            "InvalidRequestException",
            f"the cluster {inputs['clusterName']} has no add-on eks-pod-identity-agent: its pods would get nothing",
        )


PUBLIC_REGISTRIES = ("public.ecr.aws", "registry.k8s.io", "quay.io")
LOGIN_REGISTRIES = ("registry-1.docker.io", "ghcr.io", "registry.gitlab.com")
"""What ECR caches: of anybody, and with credentials of the registry's in Secrets Manager."""


def _cache_rule(world: World, record: Record, operation: str) -> None:
    upstream = record.inputs["upstreamRegistryUrl"]
    if operation == "delete" or upstream in PUBLIC_REGISTRIES:
        return
    if upstream not in LOGIN_REGISTRIES and not upstream.endswith((".azurecr.io", ".amazonaws.com")):
        raise refused(
            "UnsupportedUpstreamRegistryException", f"The specified upstream registry isn't supported: {upstream}"
        )
    if upstream in LOGIN_REGISTRIES and not record.inputs.get("credentialArn"):
        raise refused(
            "InvalidParameterException", f"The registry {upstream} needs credentials: a secret ecr-pullthroughcache/..."
        )


def _words(noun: str) -> Mapping[str, str]:
    return {
        "exists": f"api error ResourceInUseException: {noun} already exists with name: {{id}}",
        "missing": f"api error ResourceNotFoundException: No {noun.lower()} found for name: {{id}}.{{other}}",
        "in_use": f"api error ResourceInUseException: {noun} {{id}} has '{{other}}' attached",
        "not_ready": f"api error ResourceInUseException: {noun} {{id}} is not ACTIVE",
        "quota": f"api error ResourceLimitExceededException: {noun} limit exceeded for account.",
        "permission": f"api error AccessDeniedException: not authorized to perform: eks:Create{noun.replace(' ', '')} "
        "on resource: {id}",
        "timeout": f"waiting for EKS {noun} ({{id}}): timeout while waiting for state to become 'ACTIVE' (last state: "
        "'CREATING', timeout: 30m0s)",
    }


KINDS: Mapping[str, Kind] = {
    CLUSTER: Kind(
        id="{name}",
        replaced_by=(
            "roleArn",
            "accessConfig.bootstrapClusterCreatorAdminPermissions",
            "bootstrapSelfManagedAddons",
            "encryptionConfig",
            "kubernetesNetworkConfig.ipFamily",
            "kubernetesNetworkConfig.serviceIpv4Cidr",
            "outpostConfig",
            "remoteNetworkConfig",
        ),
        holds={
            "roleArn": ROLE,
            "vpcConfig.subnetIds[]": SUBNET,
            "vpcConfig.securityGroupIds[]": SECURITY_GROUP,
            "encryptionConfig.provider.keyArn": KEY,
        },
        defaults={"bootstrapSelfManagedAddons": True, "deletionProtection": False},
        computed={
            "accessConfig.authenticationMode": "CONFIG_MAP",
            "arn": arn("eks", "cluster/{name}"),
            "certificateAuthority.data": _certificate,
            "endpoint": _endpoint,
            "identities": _identities,
            "kubernetesNetworkConfig.ipFamily": "ipv4",
            "kubernetesNetworkConfig.serviceIpv4Cidr": "172.20.0.0/16",
            "platformVersion": "eks.9",
            "status": "ACTIVE",
            "upgradePolicy.supportType": "EXTENDED",
            "version": DEFAULT_VERSION,
            "vpcConfig.clusterSecurityGroupId": lambda values: _cluster_group(values["id"], values["region"]),
            "vpcConfig.vpcId": "",
            "clusterId": "",
        },
        rule=_cluster,
        errors=_words("Cluster"),
    ),
    NODE_GROUP: Kind(
        id="{clusterName}:{nodeGroupName}",
        replaced_by=(
            *("amiType", "capacityType", "clusterName", "diskSize", "instanceTypes", "launchTemplate.id"),
            *("launchTemplate.name", "nodeGroupNamePrefix", "nodeRoleArn", "remoteAccess", "subnetIds"),
        ),
        holds={
            "clusterName": CLUSTER,
            "nodeRoleArn": ROLE,
            "subnetIds[]": SUBNET,
            "launchTemplate.id": LAUNCH_TEMPLATE,
        },
        computed={
            "arn": lambda values: arn(
                "eks", f"nodegroup/{values['clusterName']}/{values['nodeGroupName']}/{digits(values['id'], 8)}"
            ).format_map(values),
            "amiType": "AL2023_x86_64_STANDARD",
            "capacityType": "ON_DEMAND",
            "diskSize": 20.0,
            "instanceTypes": ["t3.medium"],
            "resources": lambda values: [
                {
                    "autoscalingGroups": [{"name": f"eks-{values['nodeGroupName']}-{digits(values['id'], 8)}"}],
                    "remoteAccessSecurityGroupId": "",
                }
            ],
            "status": "ACTIVE",
            "version": DEFAULT_VERSION,
            "releaseVersion": f"{DEFAULT_VERSION}.1-20261101",
        },
        rule=_node_group,
        errors=_words("NodeGroup"),
    ),
    ADDON: Kind(
        id="{clusterName}:{addonName}",
        replaced_by=("addonName", "clusterName", "namespaceConfig"),
        holds={
            "clusterName": CLUSTER,
            "serviceAccountRoleArn": ROLE,
            "podIdentityAssociations[].roleArn": ROLE,
        },
        computed={
            "arn": arn("eks", "addon/{clusterName}/{addonName}"),
            "configurationValues": "",
        },
        rule=_add_on,
        errors=_words("Addon"),
    ),
    ACCESS_ENTRY: Kind(
        id="{clusterName}:{principalArn}",
        replaced_by=("clusterName", "principalArn", "type"),
        holds={"clusterName": CLUSTER},
        defaults={"type": "STANDARD"},
        computed={
            "accessEntryArn": arn("eks", "access-entry/{clusterName}/{principalArn}"),
            "userName": "{principalArn}",
        },
        rule=_access_entry,
        errors={
            **_words("AccessEntry"),
            "exists": "api error ResourceInUseException: The specified access entry resource is already in use on this "
            "cluster. ({principalArn})",
        },
    ),
    ACCESS_POLICY: Kind(
        id="{clusterName}#{principalArn}#{policyArn}",
        replaced_by=("*",),
        holds={"clusterName": CLUSTER},
        rule=_access_policy,
        shared=True,
    ),
    POD_IDENTITY: Kind(
        id="a-{random}",
        unique="{clusterName}/{namespace}/{serviceAccount}",
        replaced_by=("clusterName", "namespace", "serviceAccount"),
        holds={"clusterName": CLUSTER, "roleArn": ROLE},
        defaults={"disableSessionTags": False},
        computed={
            "associationArn": arn("eks", "podidentityassociation/{clusterName}/{id}"),
            "associationId": "{id}",
            "externalId": "",
        },
        rule=_pod_identity,
        errors={
            **_words("PodIdentityAssociation"),
            "exists": "api error ResourceInUseException: Association already exists: {namespace}/{serviceAccount}",
        },
    ),
    CACHE_RULE: Kind(
        id="{ecrRepositoryPrefix}",
        replaced_by=("ecrRepositoryPrefix", "upstreamRegistryUrl", "upstreamRepositoryPrefix"),
        computed={"registryId": "{account}"},
        rule=_cache_rule,
        errors={
            "exists": "api error PullThroughCacheRuleAlreadyExistsException: A pull through cache rule with repository "
            "prefix '{id}' already exists"
        },
    ),
    CACHE_TEMPLATE: Kind(
        id="{prefix}",
        replaced_by=("prefix",),
        holds={"customRoleArn": ROLE},
        computed={"registryId": "{account}"},
        errors={
            "exists": "api error TemplateAlreadyExistsException: The repository creation template '{id}' already exists"
        },
    ),
    REPOSITORY: Kind(
        id="{name}",
        replaced_by=("encryptionConfigurations",),
        defaults={"imageTagMutability": "MUTABLE"},
        computed={
            "arn": arn("ecr", "repository/{name}"),
            "registryId": "{account}",
            "repositoryUrl": "{account}.dkr.ecr.{region}.amazonaws.com/{name}",
        },
        errors={
            "exists": "api error RepositoryAlreadyExistsException: The repository with name '{id}' already exists in "
            "the registry",
        },
    ),
}
