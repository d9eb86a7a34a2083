"""The network on Google Cloud: every value of what is made, and what its settings refuse (row G1)."""

from __future__ import annotations

import contextvars
import copy
from typing import Any

import pulumi
import pytest
from pulumi_gcp import compute, projects

import stacks
from components.network.accounts import ROLES
from components.network.apis import NEEDED
from components.network.firewall import rules
from components.network.ordering import after
from settings import Settings, SettingsError, load
from settings.network import GkeNetwork
from stacks import network
from stacks.upstream import Upstream
from tests.unit import sdk
from tests.unit.program import Program, Registered, run

BASE: dict[str, Any] = {
    "name": "prod",
    "layers": ["network"],
    "gcp": {"project": "my-project", "region": "europe-west1"},
    "network": {"kind": "gke"},
}
DOCUMENT_NAMES = {
    "vpc": "vpc-network",
    "subnet": "subnet-gke",
    "router": "nat-router",
    "nat": "nat-config",
    "applicationAccount": "sa-application-nodes",
    "gatewayAccount": "sa-gateway-nodes",
    "googleApisZone": "private-google-apis",
    "containerRegistryZone": "private-gcr-io",
    "artifactRegistryZone": "private-pkg-dev",
    "firewallPrefix": "",
    "repositoryPrefix": "",
}
DOCUMENT = BASE | {
    "network": {
        "kind": "gke",
        "names": DOCUMENT_NAMES,
        "cidrs": {"gateway": None},
        "nat": {"subnets": "all", "log": "none"},
        "flowLogs": False,
        "firewall": {"hardened": False, "calico": True, "kubeletReadonly": True, "log": "none"},
    }
}


def changed(**network: Any) -> dict[str, Any]:
    return BASE | {"network": {"kind": "gke", **network}}


@pytest.fixture(scope="module")
def hardened() -> Program:
    return run(BASE, stack="prod")


@pytest.fixture(scope="module")
def document() -> Program:
    return run(DOCUMENT, stack="gke")


def made(program: Program, type_: str) -> dict[str, Registered]:
    """Resources of a type by the cloud's name."""
    return {it.inputs["name"]: it for it in program.of(type_)}


# What is made


def test_vpc_is_a_custom_one(document: Program, hardened: Program) -> None:
    (vpc,) = document.of(":Network")
    assert vpc.inputs == {"name": "vpc-network", "project": "my-project", "autoCreateSubnetworks": False}
    assert vpc.protect
    assert [it.inputs["name"] for it in hardened.of(":Network")] == ["prod-vpc"]


def test_the_documents_subnet(document: Program) -> None:
    (subnet,) = document.of(":Subnetwork")
    assert subnet.inputs == {
        "name": "subnet-gke",
        "project": "my-project",
        "region": "europe-west1",
        "network": "<link prod-network-vpc>",
        "ipCidrRange": "10.0.0.0/24",
        "secondaryIpRanges": [
            {"rangeName": "pods", "ipCidrRange": "10.1.0.0/16"},
            {"rangeName": "services", "ipCidrRange": "10.2.0.0/20"},
        ],
        "privateIpGoogleAccess": True,
    }


def test_the_gateway_pool_has_a_subnet_of_its_own(hardened: Program) -> None:
    subnets = made(hardened, ":Subnetwork")
    assert subnets.keys() == {"prod-nodes", "prod-gateway"}
    gateway = subnets["prod-gateway"].inputs
    assert (gateway["ipCidrRange"], gateway["privateIpGoogleAccess"]) == ("10.0.1.0/28", True)
    assert gateway["secondaryIpRanges"] == [{"rangeName": "gateway-pods", "ipCidrRange": "10.3.0.0/20"}]
    for subnet in subnets.values():
        assert subnet.inputs["logConfig"] == {
            "aggregationInterval": "INTERVAL_5_MIN",
            "flowSampling": 0.5,
            "metadata": "INCLUDE_ALL_METADATA",
        }


def test_nat_serves_all_subnets_in_the_document(document: Program) -> None:
    (router,), (nat,) = document.of(":Router"), document.of(":RouterNat")
    assert router.inputs["name"] == "nat-router"
    assert router.inputs["network"] == "<link prod-network-vpc>"
    assert nat.inputs == {
        "name": "nat-config",
        "project": "my-project",
        "region": "europe-west1",
        "router": "nat-router",
        "natIpAllocateOption": "AUTO_ONLY",
        "sourceSubnetworkIpRangesToNat": "ALL_SUBNETWORKS_ALL_IP_RANGES",
        "logConfig": {"enable": False, "filter": "ALL"},
    }


def test_nat_serves_the_gateway_pool_alone(hardened: Program) -> None:
    (nat,) = hardened.of(":RouterNat")
    assert nat.inputs["sourceSubnetworkIpRangesToNat"] == "LIST_OF_SUBNETWORKS"
    assert nat.inputs["subnetworks"] == [
        {"name": "<link prod-network-gateway-subnet>", "sourceIpRangesToNats": ["ALL_IP_RANGES"]}
    ]
    assert nat.inputs["logConfig"] == {"enable": True, "filter": "ERRORS_ONLY"}


def test_node_accounts_have_the_documents_roles_and_no_more(document: Program) -> None:
    accounts = {it.inputs["accountId"]: it for it in document.of(":Account")}
    assert accounts.keys() == {"sa-application-nodes", "sa-gateway-nodes"}
    assert accounts["sa-gateway-nodes"].inputs["description"] == "SA for gateway nodes"
    assert accounts["sa-gateway-nodes"].inputs["displayName"] == "sa-gateway-nodes"
    granted = {(it.inputs["member"], it.inputs["role"]) for it in document.of(":IAMMember")}
    assert granted == {
        (f"serviceAccount:{account}@my-project.iam.gserviceaccount.com", f"roles/{role}")
        for account in ("sa-application-nodes", "sa-gateway-nodes")
        for role in (
            "logging.logWriter",
            "monitoring.metricWriter",
            "monitoring.viewer",
            "storage.objectViewer",
            "artifactregistry.reader",
        )
    }
    assert len(document.of(":IAMMember")) == 2 * len(ROLES)
    assert not document.of(":IAMBinding")
    assert not document.of(":IAMPolicy")


ACCOUNTS = {
    "application": "sa-application-nodes@my-project.iam.gserviceaccount.com",
    "gateway": "sa-gateway-nodes@my-project.iam.gserviceaccount.com",
}


def test_firewall_rules_are_the_data(document: Program, hardened: Program) -> None:
    for program, config, prefix in ((document, DOCUMENT, ""), (hardened, BASE, "prod-")):
        emails = {
            role: email.replace("sa-application-nodes", "prod-app-nodes").replace("sa-gateway-nodes", "prod-gw-nodes")
            if prefix
            else email
            for role, email in ACCOUNTS.items()
        }
        expected = {}
        for rule in rules(GkeNetwork.model_validate(config["network"])):
            ranges = [str(cidr) for cidr in rule.ranges]
            traffic = [
                {"protocol": it.protocol, **({"ports": list(it.ports)} if it.ports else {})} for it in rule.traffic
            ]
            expected[f"{prefix}{rule.name}"] = {
                "project": "my-project",
                "network": "<link prod-network-vpc>",
                "name": f"{prefix}{rule.name}",
                "description": rule.description,
                "direction": rule.direction,
                "priority": rule.priority,
                ("destinationRanges" if rule.direction == "EGRESS" else "sourceRanges"): ranges,
                ("allows" if rule.action == "ALLOW" else "denies"): traffic,
                **({"targetServiceAccounts": [emails[role] for role in rule.targets]} if rule.targets else {}),
                **({"logConfig": {"metadata": "INCLUDE_ALL_METADATA"}} if prefix and rule.action == "DENY" else {}),
            }
        assert {name: it.inputs for name, it in made(program, ":Firewall").items()} == expected
    assert len(document.of(":Firewall")) == 11


def test_two_rules_in_full(document: Program) -> None:
    found = made(document, ":Firewall")
    assert found["global-deny-egress-all"].inputs == {
        "project": "my-project",
        "network": "<link prod-network-vpc>",
        "name": "global-deny-egress-all",
        "description": "Default rule to deny all egress from the network.",
        "direction": "EGRESS",
        "priority": 65535,
        "destinationRanges": ["0.0.0.0/0"],
        "denies": [{"protocol": "all"}],
    }
    assert found["gateway-allow-egress-web"].inputs == {
        "project": "my-project",
        "network": "<link prod-network-vpc>",
        "name": "gateway-allow-egress-web",
        "description": "Allow the nodes running the egress gateways to connect to the web",
        "direction": "EGRESS",
        "priority": 1000,
        "destinationRanges": ["0.0.0.0/0"],
        "allows": [{"protocol": "tcp", "ports": ["80", "443"]}],
        "targetServiceAccounts": ["sa-gateway-nodes@my-project.iam.gserviceaccount.com"],
    }


@pytest.mark.parametrize(("log", "logged"), [("none", set()), ("denied", {"DENY"}), ("all", {"DENY", "ALLOW"})])
def test_firewall_log(log: str, logged: set[str]) -> None:
    program = run(changed(firewall={"log": log}))
    found = {"DENY" if "denies" in it.inputs else "ALLOW" for it in program.of(":Firewall") if "logConfig" in it.inputs}
    assert found == logged


@pytest.mark.parametrize(("choice", "first"), [("private", 8), ("restricted", 4)])
def test_private_zones_follow_the_choice(choice: str, first: int) -> None:
    program = run(changed(names=DOCUMENT_NAMES, googleApis=choice))
    zones = made(program, ":ManagedZone")
    assert {name: zone.inputs["dnsName"] for name, zone in zones.items()} == {
        "private-google-apis": "googleapis.com.",
        "private-gcr-io": "gcr.io.",
        "private-pkg-dev": "pkg.dev.",
    }
    for zone in zones.values():
        assert zone.protect
        assert zone.inputs["visibility"] == "private"
        assert zone.inputs["privateVisibilityConfig"] == {"networks": [{"networkUrl": "<link prod-network-vpc>"}]}
    addresses = [f"199.36.153.{number}" for number in range(first, first + 4)]
    records = {
        (it.inputs["managedZone"], it.inputs["name"]): (it.inputs["type"], it.inputs["ttl"], it.inputs["rrdatas"])
        for it in program.of(":RecordSet")
    }
    served = f"{choice}.googleapis.com."
    assert records == {
        ("private-google-apis", served): ("A", 300, addresses),
        ("private-google-apis", "*.googleapis.com."): ("CNAME", 300, [served]),
        ("private-gcr-io", "gcr.io."): ("A", 300, addresses),
        ("private-gcr-io", "*.gcr.io."): ("CNAME", 300, ["gcr.io."]),
        ("private-pkg-dev", "pkg.dev."): ("A", 300, addresses),
        ("private-pkg-dev", "*.pkg.dev."): ("CNAME", 300, ["pkg.dev."]),
    }
    (rule,) = [it for it in program.of(":Firewall") if it.inputs["name"] == "allow-egress-gcp-apis"]
    assert rule.inputs["destinationRanges"] == [f"199.36.153.{first}/30"]


def test_apis_are_enabled_and_stay_so() -> None:
    program = run(changed(apis=["redis.googleapis.com", "compute.googleapis.com"]))
    found = [it.inputs for it in program.of(":Service")]
    assert {it["service"] for it in found} == {*NEEDED, "redis.googleapis.com"}
    assert len(found) == len(NEEDED) + 1
    assert all(it["disableOnDestroy"] is False and it["project"] == "my-project" for it in found)
    assert {"compute", "container", "dns", "iam", "artifactregistry"} <= {api.partition(".")[0] for api in NEEDED}


def test_image_mirrors(hardened: Program) -> None:
    found = {it.inputs["repositoryId"]: it.inputs for it in hardened.of(":Repository")}
    assert found.keys() == {"prod-docker-io", "prod-quay-io", "prod-registry-istio-io", "prod-registry-k8s-io"}
    for repository in found.values():
        assert (repository["format"], repository["mode"]) == ("DOCKER", "REMOTE_REPOSITORY")
        assert repository["location"] == "europe-west1"
    assert found["prod-docker-io"]["remoteRepositoryConfig"] == {
        "description": "docker.io",
        "dockerRepository": {"publicRepository": "DOCKER_HUB"},
    }
    assert found["prod-registry-k8s-io"]["remoteRepositoryConfig"] == {
        "description": "registry.k8s.io",
        "commonRepository": {"uri": "https://registry.k8s.io"},
    }


def test_without_mirrors_there_is_no_prefix() -> None:
    program = run(changed(registries=[]))
    assert not program.of(":Repository")
    assert program.outputs["network_image_prefixes"] == {}


def test_an_adopted_vpc_is_read_and_used() -> None:
    program = run(changed(adoptVpc="shared"))
    (vpc,) = program.of(":Network")
    assert vpc.read
    assert vpc.inputs == {"id": "projects/my-project/global/networks/shared"}
    assert {it.inputs["network"] for it in program.of(":Subnetwork")} == {"<link prod-network-vpc>"}
    (deny,) = [it for it in program.of(":Firewall") if it.inputs["direction"] == "EGRESS" and "denies" in it.inputs]
    assert deny.inputs["targetServiceAccounts"] == [
        f"prod-{account}-nodes@my-project.iam.gserviceaccount.com" for account in ("app", "gw")
    ]


def test_unprotected_when_the_settings_say_so() -> None:
    program = run(BASE | {"protect": False})
    assert [it.name for it in program.resources if it.protect] == []


def test_protected_are_the_vpc_and_the_zones(hardened: Program) -> None:
    assert {it.type.rpartition(":")[2] for it in hardened.resources if it.protect} == {"Network", "ManagedZone"}


# What is handed on


def test_contract(hardened: Program) -> None:
    assert hardened.outputs == {
        "network_contract": 1,
        "network_network": "<link prod-network-vpc>",
        "network_subnets": {"nodes": "<link prod-network-subnet>", "gateway": "<link prod-network-gateway-subnet>"},
        "network_ranges": {"pods": "pods", "services": "services", "gateway_pods": "gateway-pods"},
        "network_cidrs": {
            "nodes": "10.0.0.0/24",
            "pods": "10.1.0.0/16",
            "services": "10.2.0.0/20",
            "control_plane": "10.5.0.0/28",
            "gateway": "10.0.1.0/28",
            "gateway_pods": "10.3.0.0/20",
        },
        "network_node_accounts": {
            "application": "prod-app-nodes@my-project.iam.gserviceaccount.com",
            "gateway": "prod-gw-nodes@my-project.iam.gserviceaccount.com",
        },
        "network_security_groups": {},
        "network_dns_zones": {},
        "network_image_prefixes": {
            registry: f"europe-west1-docker.pkg.dev/my-project/prod-{registry.replace('.', '-')}"
            for registry in ("docker.io", "quay.io", "registry.istio.io", "registry.k8s.io")
        },
    }


def test_contract_of_the_document(document: Program) -> None:
    assert document.outputs["network_subnets"] == {"nodes": "<link prod-network-subnet>"}
    assert document.outputs["network_ranges"] == {"pods": "pods", "services": "services"}
    assert document.outputs["network_cidrs"].keys() == {"nodes", "pods", "services", "control_plane"}
    assert document.outputs["network_node_accounts"] == ACCOUNTS


def test_apis_come_before_everything(hardened: Program) -> None:
    apis = {it.name for it in hardened.of(":Service")}
    for resource in hardened.resources:
        if resource.type.startswith("gcp:") and resource.name not in apis:
            assert resource.dependencies >= apis, resource.name


def test_nodes_wait_until_firewall_nat_and_names_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(settings: Settings) -> None:
        contract = network.build(settings, Upstream(settings))
        for name, value in (
            ("network", contract.network),
            ("subnet", contract.subnets.apply(lambda subnets: subnets["nodes"])),
            ("gateway-subnet", contract.subnets.apply(lambda subnets: subnets["gateway"])),
            ("account", contract.node_accounts.apply(lambda accounts: accounts["gateway"])),
            ("image", contract.image_prefixes.apply(lambda prefixes: prefixes["docker.io"])),
        ):
            projects.Service(f"user-of-{name}", service=value)

    monkeypatch.setattr(stacks, "build", build)
    program = run(BASE)

    def waits(user: str, *types: str) -> bool:
        wanted = {it.name for type_ in types for it in program.of(type_)}
        assert len(wanted) >= len(types)
        return program.one(f"user-of-{user}").dependencies >= wanted

    for user in ("network", "subnet", "gateway-subnet"):
        assert waits(user, ":Firewall", ":RouterNat", ":RecordSet"), user
    roles = {it.name for it in program.of(":IAMMember") if "-gateway-" in it.name}
    assert len(roles) == len(ROLES)
    assert program.one("user-of-account").dependencies >= roles
    assert "prod-network-images-docker-io" in program.one("user-of-image").dependencies


class NotYetMade(pulumi.runtime.Mocks):
    """What a preview has of a new resource: no id."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        return None, dict(args.inputs)

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(args.token)


def test_a_preview_knows_what_waits_for_a_new_rule() -> None:
    """Or a new firewall rule would make the subnet unknown, and the cluster in it seem to be replaced."""
    found: dict[str, bool] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def preview() -> pulumi.Output[Any]:
        pulumi.runtime.set_mocks(NotYetMade(), preview=True)
        rule = compute.Firewall("rule", network="vpc")
        subnet = after("subnet", rule)

        async def look() -> None:
            found["subnet"] = await subnet.is_known()
            found["rule"] = await rule.id.is_known()

        return pulumi.Output.from_input(look())

    contextvars.copy_context().run(preview)
    assert found == {"subnet": True, "rule": False}


# The rules that hold for every resource


def test_inputs_are_what_the_sdk_asks_for(hardened: Program, document: Program) -> None:
    made = [it for program in (hardened, document) for it in program.resources if it.type.startswith("gcp:")]
    assert len(made) > 80
    assert [problem for it in made for problem in sdk.problems(it.type, it.inputs)] == []


def test_one_provider_and_a_parent_for_all(hardened: Program) -> None:
    assert {it.provider for it in hardened.resources if it.type.startswith("gcp:")} == {"prod-gcp"}
    assert {it.name for it in hardened.resources if not it.parent} == {"prod-network", "prod-gcp"}
    assert [it.name for it in hardened.resources if not it.name.startswith("prod-")] == []
    components = [it for it in hardened.resources if it.type.startswith("meshgate:network:")]
    assert len(components) == 7
    assert [it.name for it in components if it.outputs is None] == []


# Settings


def refused(config: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        load(config)
    return {problem.key: problem.message for problem in caught.value.problems}


def cidrs(**given: Any) -> dict[str, Any]:
    return changed(cidrs=given)


def test_defaults_are_the_hardened_ones() -> None:
    network = load(copy.deepcopy(BASE)).network
    assert isinstance(network, GkeNetwork)
    assert network.firewall.hardened
    assert network.nat.subnets == "gateway"
    assert not network.firewall.kubelet_readonly
    assert network.flow_logs


@pytest.mark.parametrize(
    ("given", "key", "said"),
    [
        (
            {"nodes": "10.1.4.0/24"},
            "network.cidrs.nodes",
            "10.1.4.0/24 overlaps pods (10.1.0.0/16); the ranges must be",
        ),
        ({"services": "10.1.16.0/20"}, "network.cidrs.pods", "10.1.0.0/16 overlaps services (10.1.16.0/20)"),
        (
            {"controlPlane": "10.2.0.16/28"},
            "network.cidrs.services",
            "10.2.0.0/20 overlaps controlPlane (10.2.0.16/28)",
        ),
        ({"gateway": {"pods": "10.1.0.0/20"}}, "network.cidrs.pods", "10.1.0.0/16 overlaps gateway.pods (10.1.0.0/20)"),
        ({"gateway": {"nodes": "10.5.0.0/28"}}, "network.cidrs.controlPlane", "10.5.0.0/28 overlaps gateway.nodes"),
        ({"nodes": "10.0.0.0/30"}, "network.cidrs.nodes", "is 10.0.0.0/30; a subnet is a /29 or larger"),
        ({"gateway": {"nodes": "10.0.1.0/30"}}, "network.cidrs.gateway.nodes", "is 10.0.1.0/30; a subnet is a /29"),
        (
            {"pods": "10.1.0.0/17"},
            "network.cidrs.pods",
            "is 10.1.0.0/17, enough for the pods of 128 nodes (each takes a /24); nodes (10.0.0.0/24) has room for "
            "252: make it a /16, or nodes smaller",
        ),
        (
            {"gateway": {"pods": "10.3.0.0/24"}},
            "network.cidrs.gateway.pods",
            "is 10.3.0.0/24, enough for the pods of 1 ",
        ),
        (
            {"gateway": {"pods": "10.3.0.0/25"}},
            "network.cidrs.gateway.pods",
            "is 10.3.0.0/25, enough for the pods of 0 ",
        ),
        ({"services": "10.2.0.0/28"}, "network.cidrs.services", "is 10.2.0.0/28; GKE takes a /16 to a /27"),
        ({"services": "10.8.0.0/15"}, "network.cidrs.services", "is 10.8.0.0/15; GKE takes a /16 to a /27"),
        ({"controlPlane": "10.5.0.0/27"}, "network.cidrs.controlPlane", "is 10.5.0.0/27; GKE takes a /28, no other"),
        (
            {"controlPlane": "172.17.0.0/28"},
            "network.cidrs.controlPlane",
            "172.17.0.0/28 is in 172.17.0.0/16, which Do",
        ),
        ({"nodes": "11.0.0.0/24"}, "network.cidrs.nodes", "is 11.0.0.0/24, which is not private; take it from 10.0.0"),
        ({"nodes": "10.0.0.1/24"}, "network.cidrs.nodes", "is '10.0.0.1/24'; it must be an IPv4 network without host"),
    ],
)
def test_wrong_ranges(given: dict[str, Any], key: str, said: str) -> None:
    found = refused(cidrs(**given))
    assert found.keys() == {key}
    assert found[key].startswith(said)


def test_sizes_at_the_limit_are_right() -> None:
    for given in (
        {"nodes": "10.0.0.0/29", "pods": "10.1.0.0/22"},
        {"services": "10.2.0.0/27"},
        {"services": "10.2.0.0/16"},
        {
            "nodes": "100.64.0.0/24",
            "pods": "192.168.0.0/16",
            "services": "172.16.0.0/20",
            "controlPlane": "172.18.0.0/28",
        },
    ):
        assert load(cidrs(**given)).network


def test_googles_ranges_are_taken() -> None:
    with pytest.raises(SettingsError) as caught:
        load(cidrs(nodes="35.191.0.0/24"))
    assert [(problem.key, problem.message) for problem in caught.value.problems] == [
        (
            "network.cidrs.nodes",
            "is 35.191.0.0/24, which is not private; take it from 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, "
            "100.64.0.0/10",
        ),
        (
            "network.cidrs.nodes",
            "35.191.0.0/24 overlaps Google's health checkers (35.191.0.0/16); the ranges must be disjoint",
        ),
    ]


def test_all_problems_at_once() -> None:
    config = changed(
        cidrs={"gateway": None, "services": "10.2.0.0/28", "controlPlane": "10.5.0.0/24"},
        registries=["quay.io", "quay.io"],
        firewall={
            "rules": [
                {
                    "name": "x",
                    "direction": "egress",
                    "action": "allow",
                    "ranges": ["10.9.0.0/24"],
                    "protocol": "icmp",
                    "ports": ["90-80"],
                    "targets": ["gateway", "gateway"],
                    "description": "x",
                }
            ]
        },
    )
    assert refused(config).keys() == {
        "network.cidrs.services",
        "network.cidrs.controlPlane",
        "network.nat.subnets",
        "network.registries",
        "network.firewall.rules[0].ports",
        "network.firewall.rules[0].ports[0]",
        "network.firewall.rules[0].targets",
    }


@pytest.mark.parametrize(
    ("names", "key", "said"),
    [
        ({"vpc": "My-VPC"}, "vpc", "is 'My-VPC'; it must be lower-case letters, digits and '-'; {name} is the"),
        ({"vpc": "vpc-"}, "vpc", "is 'vpc-'; it must be lower-case"),
        ({"applicationAccount": "nodes"}, "applicationAccount", "is 'nodes'; it must have 6 to 30 characters"),
        ({"gatewayAccount": "{name}-gateway-node"}, "gatewayAccount", "is '{name}-gateway-node'; it must have 6 to 30"),
        ({"firewallPrefix": "9-"}, "firewallPrefix", "is '9-'; it must be"),
        ({"vpc": ""}, "vpc", "is ''; it must have 1 to 63 characters"),
    ],
)
def test_wrong_names(names: dict[str, str], key: str, said: str) -> None:
    found = refused(changed(names=names))
    assert found.keys() == {f"network.names.{key}"}
    assert found[f"network.names.{key}"].startswith(said)


def test_the_longest_environment_has_names_that_the_cloud_takes() -> None:
    program = run(BASE | {"name": "n" * 20})
    assert {len(it.inputs["accountId"]) for it in program.of(":Account")} == {29, 30}
    assert max(len(it.inputs["name"]) for it in program.of(":Firewall")) <= 63
    assert max(len(it.inputs["repositoryId"]) for it in program.of(":Repository")) <= 63


def test_names_of_rules_differ() -> None:
    own = {
        "direction": "egress",
        "action": "deny",
        "ranges": ["10.9.0.0/24"],
        "targets": ["gateway"],
        "description": "x",
    }
    names = ["mine", "allow-egress-kubelet", "mine", "other"]
    with pytest.raises(SettingsError) as caught:
        run(changed(firewall={"rules": [own | {"name": name} for name in names]}))
    assert [(problem.key, problem.message) for problem in caught.value.problems] == [
        (
            f"network.firewall.rules[{index}].name",
            f"'{names[index]}' names 2 rules; names must differ, from the layer's own too",
        )
        for index in (0, 1, 2)
    ]
