"""The GKE cluster and its application pool (row G1): every value, the order, the kubeconfig."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from components.cluster.gke_nodes import subnet_path
from settings import SettingsError, load
from tests.unit.conftest import part
from tests.unit.program import UPSTREAM, Program, run

NODE_CONFIG = {
    "machineType": "e2-standard-4",
    "imageType": "COS_CONTAINERD",
    "serviceAccount": "sa-application-nodes@my-project.iam.gserviceaccount.com",
    "oauthScopes": ["https://www.googleapis.com/auth/cloud-platform"],
    "shieldedInstanceConfig": {"enableSecureBoot": True, "enableIntegrityMonitoring": True},
    "workloadMetadataConfig": {"mode": "GKE_METADATA"},
    "metadata": {"disable-legacy-endpoints": "true"},
    "kubeletConfig": {"insecureKubeletReadonlyPortEnabled": "FALSE"},
}


def cluster(gke: dict[str, Any], upstream: dict[str, Any] | None = None, **settings: Any) -> Program:
    """The layer alone with other settings, on a network with a subnet of the gateway's own in another stack."""
    config = part(gke, ["cluster"], "base")
    config["cluster"] = {**config["cluster"], **settings}
    return run(config, stack="gke", references={"base": {**UPSTREAM, **(upstream or {})}})


def test_every_value_of_the_cluster(gke_program: Program) -> None:
    assert gke_program.one("gke-cluster-cluster").inputs == {
        "project": "my-project",
        "name": "cluster1",
        "location": "europe-west1-b",
        "releaseChannel": {"channel": "REGULAR"},
        "deletionProtection": False,
        "network": "<link gke-network-vpc>",
        "subnetwork": "<link gke-network-subnet>",
        "networkingMode": "VPC_NATIVE",
        "ipAllocationPolicy": {
            "clusterSecondaryRangeName": "pods",
            "servicesSecondaryRangeName": "services",
            "additionalIpRangesConfigs": [],
        },
        "datapathProvider": "ADVANCED_DATAPATH",
        "privateClusterConfig": {
            "enablePrivateNodes": True,
            "enablePrivateEndpoint": False,
            "masterIpv4CidrBlock": "10.5.0.0/28",
        },
        "masterAuthorizedNetworksConfig": {
            "cidrBlocks": [{"displayName": "shell", "cidrBlock": "203.0.113.10/32"}],
            "gcpPublicCidrsAccessEnabled": False,
            "privateEndpointEnforcementEnabled": True,
        },
        "controlPlaneEndpointsConfig": {
            "dnsEndpointConfig": {"allowExternalTraffic": False},
            "ipEndpointsConfig": {"enabled": True},
        },
        "workloadIdentityConfig": {"workloadPool": "my-project.svc.id.goog"},
        "enableShieldedNodes": True,
        "enableLegacyAbac": False,
        "anonymousAuthenticationConfig": {"mode": "LIMITED"},
        "rbacBindingConfig": {
            "enableInsecureBindingSystemAuthenticated": False,
            "enableInsecureBindingSystemUnauthenticated": False,
        },
        "loggingConfig": {"enableComponents": ["SYSTEM_COMPONENTS", "WORKLOADS"]},
        "monitoringConfig": {"enableComponents": ["SYSTEM_COMPONENTS"], "managedPrometheus": {"enabled": True}},
        "nodePoolDefaults": {"nodeConfigDefaults": {"insecureKubeletReadonlyPortEnabled": "FALSE"}},
        "removeDefaultNodePool": True,
        "initialNodeCount": 1,
        # The default pool's node, for as long as it is there.
        "nodeConfig": NODE_CONFIG,
    }


def test_every_value_of_the_application_pool(gke_program: Program) -> None:
    pool = gke_program.one("gke-cluster-application")
    assert pool.inputs == {
        "project": "my-project",
        "cluster": "cluster1",
        "location": "europe-west1-b",
        "name": "application",
        "initialNodeCount": 1,
        "autoscaling": {"minNodeCount": 1, "maxNodeCount": 3},
        "management": {"autoRepair": True, "autoUpgrade": True},
        "networkConfig": {
            "enablePrivateNodes": True,
            "subnetwork": "<link gke-network-subnet>",
            "podRange": "pods",
        },
        "nodeConfig": NODE_CONFIG,
    }


def test_what_the_provider_may_see_changed(gke_program: Program) -> None:
    """Else a removed default pool would replace the cluster, another minimum its pool; a mesh would lose its fleet."""
    assert gke_program.one("gke-cluster-cluster").ignored == ("nodeConfig", "fleet")
    assert gke_program.one("gke-cluster-application").ignored == ("initialNodeCount",)


def test_no_node_before_nat_firewall_names_and_roles(gke_program: Program) -> None:
    needed = {
        resource.name
        for resource in gke_program.resources
        if resource.type.rsplit(":", 1)[1] in ("RouterNat", "Firewall", "RecordSet")
        or (resource.type.startswith("gcp:projects/iAMMember") and "application" in resource.name)
    }
    assert len(needed) > 18
    # The default pool's node starts with the cluster.
    for name in ("gke-cluster-cluster", "gke-cluster-application"):
        assert needed <= gke_program.one(name).dependencies


def test_nothing_runs_before_there_are_nodes(gke_program: Program) -> None:
    assert "gke-cluster-application" in gke_program.one("gke-kubernetes").dependencies


def test_kubeconfig_holds_no_credentials(gke_program: Program) -> None:
    kubeconfig = yaml.safe_load(gke_program.outputs["cluster_kubeconfig"])
    assert kubeconfig == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "cluster1", "cluster": {"server": "https://<address>", "certificate-authority-data": "<CA>"}}
        ],
        "users": [
            {
                "name": "cluster1",
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "gke-gcloud-auth-plugin",
                        "installHint": kubeconfig["users"][0]["user"]["exec"]["installHint"],
                        "provideClusterInfo": True,
                        "interactiveMode": "Never",
                    }
                },
            }
        ],
        "contexts": [{"name": "cluster1", "context": {"cluster": "cluster1", "user": "cluster1"}}],
        "current-context": "cluster1",
    }


def test_contract(gke_program: Program) -> None:
    handed = {name: value for name, value in gke_program.outputs.items() if name.startswith("cluster_")}
    del handed["cluster_kubeconfig"]
    assert handed == {
        "cluster_contract": 1,
        "cluster_identifier": "gke-cluster-cluster-id",
        "cluster_pod_cidr": "10.1.0.0/16",
        "cluster_service_cidr": "10.2.0.0/20",
        "cluster_name": "cluster1",
        "cluster_location": "europe-west1-b",
    }
    assert gke_program.secret_outputs == {"cluster_kubeconfig"}
    provider = gke_program.one("gke-kubernetes")
    assert provider.secrets == {"kubeconfig"}
    assert provider.inputs["clusterIdentifier"] == "gke-cluster-cluster-id"


def test_dns_endpoint_is_trusted_by_public_cas(gke: dict[str, Any]) -> None:
    program = cluster(gke, controlPlane={"dnsEndpoint": True})
    inputs = program.one("gke-cluster-cluster").inputs
    assert inputs["controlPlaneEndpointsConfig"]["dnsEndpointConfig"] == {"allowExternalTraffic": True}
    kubeconfig = yaml.safe_load(program.outputs["cluster_kubeconfig"])
    assert kubeconfig["clusters"] == [{"name": "cluster1", "cluster": {"server": "https://<name>"}}]


def test_hardened_defaults(gke: dict[str, Any]) -> None:
    """No public address, nobody outside but by IAM, and neither Pulumi nor the provider deletes it."""
    config = part(gke, ["cluster"], "base")
    config["cluster"] = {"kind": "gke", "location": "europe-west1"}
    del config["protect"]
    made = run(config, references={"base": UPSTREAM}).one("gke-cluster-cluster")
    assert made.protect
    assert made.inputs["deletionProtection"] is True
    assert made.inputs["privateClusterConfig"]["enablePrivateEndpoint"] is True
    assert made.inputs["masterAuthorizedNetworksConfig"] == {
        "cidrBlocks": [],
        "gcpPublicCidrsAccessEnabled": False,
        "privateEndpointEnforcementEnabled": True,
    }
    assert made.inputs["releaseChannel"] == {"channel": "REGULAR"}


def test_protection_is_a_setting(gke: dict[str, Any], gke_program: Program) -> None:
    assert not gke_program.one("gke-cluster-cluster").protect
    assert cluster({**gke, "protect": True}).one("gke-cluster-cluster").protect


def test_application_nodes_stay_out_of_the_gateways_subnet(gke: dict[str, Any]) -> None:
    """The cluster knows both subnets; which one a pool is in is said, not left to where addresses are free."""
    program = cluster(gke)
    assert program.one("gke-cluster-cluster").inputs["ipAllocationPolicy"] == {
        "clusterSecondaryRangeName": "pods",
        "servicesSecondaryRangeName": "services",
        "additionalIpRangesConfigs": [
            {
                "subnetwork": "projects/base/regions/europe-west1/subnetworks/gateway",
                "podIpv4RangeNames": ["gateway-pods"],
            }
        ],
    }
    assert program.one("gke-cluster-application").inputs["networkConfig"] == {
        "enablePrivateNodes": True,
        "subnetwork": "projects/base/regions/europe-west1/subnetworks/nodes",
        "podRange": "pods",
    }


@pytest.mark.parametrize(
    ("link", "path"),
    [
        (
            "https://www.googleapis.com/compute/v1/projects/p/regions/r/subnetworks/s",
            "projects/p/regions/r/subnetworks/s",
        ),
        ("projects/p/regions/r/subnetworks/s", "projects/p/regions/r/subnetworks/s"),
        ("s", "s"),
    ],
)
def test_subnets_are_written_as_gke_does(link: str, path: str) -> None:
    assert subnet_path(link) == path


# Settings


def said(config: dict[str, Any]) -> dict[str, str]:
    """What is wrong, by key."""
    with pytest.raises(SettingsError) as error:
        load(config)
    return {problem.key: problem.message for problem in error.value.problems}


def test_the_example_loads(gke: dict[str, Any]) -> None:
    load(gke)


@pytest.mark.parametrize(
    ("settings", "key", "message"),
    [
        (
            {"location": "europe-west4-b"},
            "cluster.location",
            "is 'europe-west4-b', outside gcp.region (europe-west1), where its network is",
        ),
        # Not a zone of europe-west1 although its name begins so.
        (
            {"location": "europe-west12"},
            "cluster.location",
            "is 'europe-west12', outside gcp.region (europe-west1), where its network is",
        ),
        (
            {"controlPlane": {"public": True}},
            "cluster.controlPlane.authorizedNetworks",
            "is empty; a public address needs to know who may use it",
        ),
        (
            {"controlPlane": {"authorizedNetworks": [{"name": "all", "cidr": "0.0.0.0/0"}]}},
            "cluster.controlPlane.authorizedNetworks[0].cidr",
            "is everybody; name the networks",
        ),
        (
            {"applicationPool": {"nodes": {"min": 4, "max": 3}}},
            "cluster.applicationPool.nodes.min",
            "is 4, more than max (3)",
        ),
        (
            {"name": "1cluster"},
            "cluster.name",
            "is '1cluster'; it must be at most 40 lower-case letters, digits and '-', a letter first",
        ),
        (
            {"applicationPool": {"name": "gateway"}},
            "gateway_pool.name",
            "'gateway' is cluster.applicationPool too; names must differ",
        ),
    ],
)
def test_wrong_settings(gke: dict[str, Any], settings: dict[str, Any], key: str, message: str) -> None:
    config = copy.deepcopy(gke)
    config["cluster"] |= settings
    assert said(config) == {key: message}


@pytest.mark.parametrize("location", ["europe-west1", "europe-west1-c"])
def test_region_or_zone(gke: dict[str, Any], location: str) -> None:
    gke["cluster"]["location"] = location
    load(gke)


def test_istiods_webhooks_need_their_rule(gke: dict[str, Any]) -> None:
    gke["network"]["firewall"]["inClusterIstiod"] = False
    assert said(gke) == {
        "network.firewall.inClusterIstiod": "is false, but istiod is in the cluster: "
        "the API server could not reach its webhooks (15017)"
    }
