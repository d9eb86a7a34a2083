"""The simulated Google Cloud: what pulumi_gcp does not say of the resource types that meshgate uses.

Which changes replace a resource follows version 10.2 of the package (https://www.pulumi.com/registry/packages/gcp/);
errors are worded like the cloud's. A cluster is the lab's own API server, reached with the lab's administrator by the
stand-in for gke-gcloud-auth-plugin (gke_auth.py).

Stricter than the cloud, so that a wrong order shows: a router with NAT and a cluster with node pools cannot be deleted
(the cloud would delete both together), and an account must exist before a firewall rule names it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from ipaddress import ip_network
from typing import Any

from pulumi.provider.experimental.provider import DeleteRequest

from lab import pki
from lab.instance import Instance
from lab.plugins.base import Plain, PluginError, plain_map, serve
from lab.plugins.cloud import Cloud, Kind, Properties, digits, values_at
from lab.plugins.store import Record, World
from lab.topology import API_PORT, CONTROL_PLANE

NETWORK = "gcp:compute/network:Network"
SUBNETWORK = "gcp:compute/subnetwork:Subnetwork"
ROUTER = "gcp:compute/router:Router"
ACCOUNT = "gcp:serviceaccount/account:Account"
ZONE = "gcp:dns/managedZone:ManagedZone"
RECORD_SET = "gcp:dns/recordSet:RecordSet"
CLUSTER = "gcp:container/cluster:Cluster"
NODE_POOL = "gcp:container/nodePool:NodePool"
REPOSITORY = "gcp:artifactregistry/repository:Repository"
BUCKET = "gcp:storage/bucket:Bucket"
BUCKET_OBJECT = "gcp:storage/bucketObject:BucketObject"
MEMBERSHIP = "gcp:gkehub/membership:Membership"
FEATURE = "gcp:gkehub/feature:Feature"
MEMBERS = (
    "gcp:projects/iAMMember:IAMMember",
    "gcp:serviceaccount/iAMMember:IAMMember",
    "gcp:storage/bucketIAMMember:BucketIAMMember",
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
)

APIS = {
    "artifactregistry": "artifactregistry.googleapis.com",
    "compute": "compute.googleapis.com",
    "container": "container.googleapis.com",
    "dns": "dns.googleapis.com",
    "gkehub": "gkehub.googleapis.com",
    "kms": "cloudkms.googleapis.com",
    "secretmanager": "secretmanager.googleapis.com",
    "serviceaccount": "iam.googleapis.com",
}
"""The API behind a module of the SDK."""

ALWAYS_ON = ("cloudresourcemanager.googleapis.com", "serviceusage.googleapis.com", "storage.googleapis.com")
"""What a new project of the simulation has switched on: what the provider itself needs, and storage."""

MESH_FEATURE, MESH_API = "servicemesh", "mesh.googleapis.com"
ACCOUNT_EMAIL = "{accountId}@{project}.iam.gserviceaccount.com"
KUBERNETES = "1.34.4-gke.1047000"

# Changes of a node's configuration that only a new node can take over.
NODE_CONFIG = tuple(
    f"nodeConfig.{name}"
    for name in (
        "advancedMachineFeatures",
        "bootDiskKmsKey",
        "confidentialNodes",
        "ephemeralStorageLocalSsdConfig",
        "guestAccelerators",
        "hostMaintenancePolicy",
        "localNvmeSsdBlockConfig",
        "localSsdCount",
        "metadata",
        "minCpuPlatform",
        "nodeGroup",
        "oauthScopes",
        "preemptible",
        "reservationAffinity",
        "sandboxConfig",
        "serviceAccount",
        "shieldedInstanceConfig",
        "soleTenantConfig",
        "spot",
    )
)


def _switch_on(world: World, record: Record, operation: str) -> None:
    project, service = record.outputs["project"], record.inputs["service"]
    switched_on = world.switched_on.setdefault(project, list(ALWAYS_ON))
    if operation == "create" and service not in switched_on:
        switched_on.append(service)
    if operation == "delete" and record.inputs.get("disableOnDestroy") is True and service in switched_on:
        switched_on.remove(service)


def _subnetwork(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    mine = list(_ranges(record))
    for other in world.of(SUBNETWORK):
        if other.id == record.id or _path(other.inputs["network"]) != _path(record.inputs["network"]):
            continue
        for name, cidr in mine:
            for taken_by, taken in _ranges(other):
                if ip_network(cidr).overlaps(ip_network(taken)):
                    raise _invalid(f"{name} {cidr} conflicts with {taken_by} {taken} of subnetwork '{other.id}'")


def _ranges(subnetwork: Record) -> Iterator[tuple[str, str]]:
    if cidr := subnetwork.inputs.get("ipCidrRange"):
        yield "IP range", cidr
    for secondary in subnetwork.inputs.get("secondaryIpRanges") or []:
        if cidr := secondary.get("ipCidrRange"):
            yield f"secondary range {secondary['rangeName']}", cidr


def _accounts_exist(world: World, record: Record, operation: str) -> None:
    """Whether every service account of a simulated project that a resource names exists."""
    if operation == "delete":
        return
    named = ("member", "nodeConfig.serviceAccount", "targetServiceAccounts[]", "sourceServiceAccounts[]")
    for path in named:
        for _, value in values_at(record.inputs, path):
            email = str(value).removeprefix("serviceAccount:")
            if re.fullmatch(r"[^@\[]+@[^@]+\.iam\.gserviceaccount\.com", email):
                project = email.partition("@")[2].partition(".")[0]
                if not any(account.outputs["email"] == email for account in world.of(ACCOUNT)):
                    raise PluginError(f"googleapi: Error 404: Service account {email} does not exist in {project}")
            if pool := re.search(r"([a-z][-a-z0-9]+\.svc\.id\.goog)(\[|/subject/)", str(value)):
                _pool_exists(world, pool[1])


def _pool_exists(world: World, pool: str) -> None:
    pools = [cluster.inputs.get("workloadIdentityConfig", {}).get("workloadPool") for cluster in world.of(CLUSTER)]
    if pool not in pools:
        raise _invalid(f"Identity Pool does not exist ({pool}): it comes with the first cluster that uses it")


def _record_set(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    zone = _find(world, ZONE, record.inputs["managedZone"])
    name, type_ = record.inputs["name"], record.inputs["type"]
    if not f".{name}".endswith(f".{zone.inputs['dnsName']}"):
        raise _invalid(f"'{name}' is not in the zone '{zone.id}', which is for '{zone.inputs['dnsName']}'")
    for other in world.of(RECORD_SET):
        same = (
            other.id != record.id
            and other.inputs["name"] == name
            and _find(world, ZONE, other.inputs["managedZone"]) == zone
        )
        if same and "CNAME" in (type_, other.inputs["type"]):
            raise _invalid(f"the record set '{name} {type_}' cannot stand beside '{name} {other.inputs['type']}'")


def _zone(world: World, record: Record, operation: str) -> None:
    if operation == "delete" and not record.inputs.get("forceDestroy"):
        left = [one.id for one in world.of(RECORD_SET) if _names(record, one.inputs["managedZone"])]
        if left:
            raise PluginError(
                f"googleapi: Error 400: The resource '{record.id}' could not be deleted because it is not empty "
                f"({', '.join(left)}), containerNotEmpty"
            )


def _bucket(world: World, record: Record, operation: str) -> None:
    if operation != "delete":
        return
    left = [one for one in world.of(BUCKET_OBJECT) if one.inputs["bucket"] == record.id]
    if left and not record.inputs.get("forceDestroy"):
        raise PluginError(
            f"googleapi: Error 409: The bucket you tried to delete is not empty, conflict: {record.id} holds "
            f"{', '.join(one.outputs['name'] for one in left)}"
        )
    for one in left:
        del world.records[one.key]


def _cluster(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        if record.outputs.get("deletionProtection"):
            raise PluginError(
                f"Cannot destroy cluster {record.id} because deletion_protection is set to true. "
                "Set it to false and run `pulumi up` before the deletion"
            )
        return
    for subnetwork, ranges in _pod_ranges(world, record).items():
        for name in ranges:
            _secondary_range_exists(world.records[subnetwork], name)
    pool = (record.inputs.get("workloadIdentityConfig") or {}).get("workloadPool")
    if pool not in (None, f"{record.outputs['project']}.svc.id.goog"):
        raise _invalid(f"Workload pool {pool} is not that of the project: {record.outputs['project']}.svc.id.goog")
    _accounts_exist(world, record, operation)


def _pod_ranges(world: World, cluster: Record) -> dict[str, list[str]]:
    """The secondary ranges that a cluster names, by the key of the subnetwork that it names them in."""
    policy = cluster.inputs.get("ipAllocationPolicy") or {}
    own = [policy[key] for key in ("clusterSecondaryRangeName", "servicesSecondaryRangeName") if key in policy]
    named = [(cluster.inputs.get("subnetwork"), own)]
    for more in policy.get("additionalIpRangesConfigs") or []:
        named.append((more["subnetwork"], more.get("podIpv4RangeNames") or []))
    return {_find(world, SUBNETWORK, subnetwork).key: ranges for subnetwork, ranges in named if subnetwork}


def _node_pool(world: World, record: Record, operation: str) -> None:
    if operation == "delete":
        return
    _accounts_exist(world, record, operation)
    network = record.inputs.get("networkConfig") or {}
    cluster = _find(world, CLUSTER, record.inputs["cluster"])
    subnetwork = network.get("subnetwork") or cluster.inputs.get("subnetwork")
    if not subnetwork:
        return
    used, known = _find(world, SUBNETWORK, subnetwork), _pod_ranges(world, cluster)
    if used.key not in known:
        raise _invalid(f"subnetwork '{used.id}' is not one of the cluster's: {', '.join(known) or 'it has none'}")
    if name := network.get("podRange"):
        _secondary_range_exists(used, name)


def _secondary_range_exists(subnetwork: Record, name: str) -> None:
    if name not in [secondary["rangeName"] for secondary in subnetwork.inputs.get("secondaryIpRanges") or []]:
        raise _invalid(f"Pod or service secondary range '{name}' does not exist in subnetwork '{subnetwork.id}'")


def _feature(world: World, record: Record, operation: str) -> None:
    if operation == "create" and record.outputs["name"] == MESH_FEATURE:
        _api_is_on(world, record.outputs["project"], MESH_API)


def _invalid(reason: str) -> PluginError:
    return PluginError(f"googleapi: Error 400: Invalid value: {reason}, invalid")


def _api_is_on(world: World, project: str, api: str) -> None:
    if api not in world.switched_on.get(project, ALWAYS_ON):
        raise PluginError(
            f"googleapi: Error 403: {api} has not been used in project {project} before or it is disabled. Enable it "
            "(gcp.projects.Service) and let what needs it wait for that, SERVICE_DISABLED"
        )


def _path(text: str) -> str:
    """`projects/...` out of a link, the address out of a member; anything else as it is."""
    link = re.fullmatch(r"(?:https?:)?//[^/]+/(?:.*?/)?(projects/.+)", text)
    return link[1] if link else text.removeprefix("serviceAccount:")


def _names(record: Record, text: str) -> bool:
    return _path(text) in (record.id, record.id.rsplit("/", 1)[-1])


def _find(world: World, type_: str, text: str) -> Record:
    """What a reference means that is known to exist."""
    return next(record for record in world.of(type_) if _names(record, text))


def _instance() -> Instance:
    return Instance(os.environ["MESHGATE_LAB"])


def _endpoint(_: Mapping[str, Any]) -> Plain:
    return f"{CONTROL_PLANE}:{API_PORT}"


def _certificate(_: Mapping[str, Any]) -> Plain:
    return base64.b64encode(pki.cluster_authority(_instance()).certificate.read_bytes()).decode()


def _md5(values: Mapping[str, Any]) -> Plain:
    content = str(values.get("content") or values.get("source") or "")
    return base64.b64encode(hashlib.md5(content.encode(), usedforsecurity=False).digest()).decode()


KINDS: Mapping[str, Kind] = {
    "gcp:projects/service:Service": Kind(
        id="{project}/{service}", replaced_by=("service",), rule=_switch_on, shared=True
    ),
    NETWORK: Kind(
        id="projects/{project}/global/networks/{name}",
        replaced_by=("autoCreateSubnetworks", "description", "enableUlaInternalIpv6", "networkProfile"),
        defaults={"autoCreateSubnetworks": True},
        computed={"mtu": 0.0, "routingMode": "REGIONAL", "gatewayIpv4": ""},
    ),
    SUBNETWORK: Kind(
        id="projects/{project}/regions/{region}/subnetworks/{name}",
        replaced_by=("network", "description", "ipCidrRange", "purpose", "reservedInternalRange"),
        holds={"network": NETWORK},
        computed={
            "purpose": "PRIVATE",
            "stackType": "IPV4_ONLY",
            "privateIpv6GoogleAccess": "DISABLE_GOOGLE_ACCESS",
            "gatewayAddress": lambda values: str(ip_network(values["ipCidrRange"])[1]),
        },
        rule=_subnetwork,
    ),
    ROUTER: Kind(
        id="projects/{project}/regions/{region}/routers/{name}",
        replaced_by=("network", "encryptedInterconnectRouter"),
        holds={"network": NETWORK},
    ),
    "gcp:compute/routerNat:RouterNat": Kind(
        id="{project}/{region}/{router}/{name}",
        replaced_by=("router", "initialNatIps", "endpointTypes", "type"),
        holds={"router": ROUTER, "subnetworks[].name": SUBNETWORK},
        computed={"autoNetworkTier": "PREMIUM", "endpointTypes": ["ENDPOINT_TYPE_VM"]},
    ),
    "gcp:compute/firewall:Firewall": Kind(
        id="projects/{project}/global/firewalls/{name}",
        replaced_by=("network", "direction"),
        holds={"network": NETWORK},
        defaults={"priority": 1000.0},
        computed={"direction": "INGRESS"},
        rule=_accounts_exist,
    ),
    ACCOUNT: Kind(
        id=f"projects/{{project}}/serviceAccounts/{ACCOUNT_EMAIL}",
        replaced_by=("accountId",),
        computed={
            "email": ACCOUNT_EMAIL,
            "member": f"serviceAccount:{ACCOUNT_EMAIL}",
            "name": f"projects/{{project}}/serviceAccounts/{ACCOUNT_EMAIL}",
        },
    ),
    MEMBERS[0]: Kind(id="{project}/{role}/{member}", replaced_by=("*",), rule=_accounts_exist, shared=True),
    MEMBERS[1]: Kind(
        id="{serviceAccountId}/{role}/{member}",
        replaced_by=("*",),
        names={"serviceAccountId": ACCOUNT},
        rule=_accounts_exist,
        shared=True,
    ),
    MEMBERS[2]: Kind(
        id="b/{bucket}/{role}/{member}",
        replaced_by=("*",),
        names={"bucket": BUCKET},
        rule=_accounts_exist,
        shared=True,
    ),
    MEMBERS[3]: Kind(
        id="projects/{project}/locations/{location}/repositories/{repository}/{role}/{member}",
        replaced_by=("*",),
        names={"repository": REPOSITORY},
        rule=_accounts_exist,
        shared=True,
    ),
    ZONE: Kind(
        id="projects/{project}/managedZones/{name}",
        replaced_by=("dnsName", "visibility", "reverseLookup"),
        holds={"privateVisibilityConfig.networks[].networkUrl": NETWORK},
        defaults={"visibility": "public", "description": "Managed by Pulumi"},
        rule=_zone,
    ),
    RECORD_SET: Kind(
        id="projects/{project}/managedZones/{managedZone}/rrsets/{name}/{type}",
        replaced_by=("managedZone", "type"),
        names={"managedZone": ZONE},
        rule=_record_set,
    ),
    CLUSTER: Kind(
        id="projects/{project}/locations/{location}/clusters/{name}",
        replaced_by=(
            "network",
            "subnetwork",
            "clusterIpv4Cidr",
            "datapathProvider",
            "defaultMaxPodsPerNode",
            "description",
            "enableAutopilot",
            "enableKubernetesAlpha",
            "enableTpu",
            "initialNodeCount",
            "ipAllocationPolicy.clusterIpv4CidrBlock",
            "ipAllocationPolicy.clusterSecondaryRangeName",
            "ipAllocationPolicy.servicesIpv4CidrBlock",
            "ipAllocationPolicy.servicesSecondaryRangeName",
            "masterAuth",
            "networkingMode",
            "privateClusterConfig.masterIpv4CidrBlock",
            "privateClusterConfig.privateEndpointSubnetwork",
            *NODE_CONFIG,
        ),
        holds={
            "network": NETWORK,
            "subnetwork": SUBNETWORK,
            "ipAllocationPolicy.additionalIpRangesConfigs[].subnetwork": SUBNETWORK,
        },
        defaults={"deletionProtection": True, "enableShieldedNodes": True, "network": "default"},
        computed={
            "clusterIpv4Cidr": "10.1.0.0/16",
            "controlPlaneEndpointsConfig.dnsEndpointConfig.endpoint": _endpoint,
            "datapathProvider": "LEGACY_DATAPATH",
            "defaultMaxPodsPerNode": 110.0,
            "endpoint": _endpoint,
            "loggingService": "logging.googleapis.com/kubernetes",
            "masterAuth.clientCertificate": "",
            "masterAuth.clientKey": "",
            "masterAuth.clusterCaCertificate": _certificate,
            "masterVersion": KUBERNETES,
            "monitoringService": "monitoring.googleapis.com/kubernetes",
            "networkingMode": "VPC_NATIVE",
            "nodeVersion": KUBERNETES,
            "privateClusterConfig.privateEndpoint": _endpoint,
            "privateClusterConfig.publicEndpoint": _endpoint,
            "servicesIpv4Cidr": "10.2.0.0/20",
        },
        rule=_cluster,
    ),
    NODE_POOL: Kind(
        id="projects/{project}/locations/{location}/clusters/{cluster}/nodePools/{name}",
        replaced_by=(
            "cluster",
            "initialNodeCount",
            "maxPodsPerNode",
            "namePrefix",
            "networkConfig.createPodRange",
            "networkConfig.podIpv4CidrBlock",
            "networkConfig.podRange",
            "networkConfig.subnetwork",
            "placementPolicy",
            *NODE_CONFIG,
        ),
        holds={"cluster": CLUSTER, "networkConfig.subnetwork": SUBNETWORK},
        computed={"nodeCount": 1.0, "initialNodeCount": 1.0, "maxPodsPerNode": 110.0, "version": KUBERNETES},
        rule=_node_pool,
    ),
    REPOSITORY: Kind(
        id="projects/{project}/locations/{location}/repositories/{repositoryId}",
        replaced_by=(
            "repositoryId",
            "format",
            "kmsKeyName",
            "mode",
            "remoteRepositoryConfig.commonRepository",
            "remoteRepositoryConfig.description",
            "remoteRepositoryConfig.dockerRepository",
        ),
        defaults={"mode": "STANDARD_REPOSITORY"},
        computed={"name": "{repositoryId}", "registryUri": "{location}-docker.pkg.dev/{project}/{repositoryId}"},
    ),
    BUCKET: Kind(
        id="{name}",
        replaced_by=("customPlacementConfig", "enableObjectRetention", "hierarchicalNamespace"),
        defaults={"forceDestroy": False, "storageClass": "STANDARD"},
        computed={
            "publicAccessPrevention": "inherited",
            "rpo": "DEFAULT",
            "selfLink": "https://www.googleapis.com/storage/v1/b/{name}",
            "url": "gs://{name}",
        },
        rule=_bucket,
    ),
    BUCKET_OBJECT: Kind(
        id="{bucket}-{name}",
        replaced_by=("bucket", "content"),
        names={"bucket": BUCKET},
        computed={
            "contentType": "text/plain; charset=utf-8",
            "md5hash": _md5,
            "mediaLink": "https://storage.googleapis.com/download/storage/v1/b/{bucket}/o/{name}",
            "outputName": "{name}",
            "selfLink": "https://www.googleapis.com/storage/v1/b/{bucket}/o/{name}",
            "storageClass": "STANDARD",
        },
        shared=True,
    ),
    MEMBERSHIP: Kind(
        id="projects/{project}/locations/{location}/memberships/{membershipId}",
        replaced_by=("membershipId", "endpoint"),
        names={"endpoint.gkeCluster.resourceLink": CLUSTER},
        defaults={"location": "global"},
        computed={"name": "projects/{project}/locations/{location}/memberships/{membershipId}"},
    ),
    FEATURE: Kind(id="projects/{project}/locations/{location}/features/{name}", rule=_feature),
    "gcp:gkehub/featureMembership:FeatureMembership": Kind(
        id="projects/{project}/locations/{location}/features/{feature}/membershipId/{membership}",
        replaced_by=("feature", "membership", "membershipLocation"),
        holds={"feature": FEATURE, "membership": MEMBERSHIP},
    ),
}


class Gcp(Cloud):
    """The simulated Google Cloud."""

    places = ("project", "region", "zone", "location")
    errors: Mapping[str, str] = {
        "exists": "googleapi: Error 409: The resource '{id}' already exists, alreadyExists",
        "missing": "googleapi: Error 404: The {type} resource '{id}'{other} was not found, notFound",
        "in_use": "googleapi: Error 400: The {type} resource '{id}' is already being used by '{other}', "
        "resourceInUseByAnotherResource",
        "not_ready": "googleapi: Error 400: The resource '{id}' is not ready, resourceNotReady",
        "quota": "googleapi: Error 403: Quota exceeded while creating {type} '{id}', quotaExceeded",
        "permission": "googleapi: Error 403: Required permission is missing for {type} '{id}', forbidden",
        "timeout": "Error waiting for {type} '{id}': timeout while waiting for state to become 'DONE'",
        "lost": "Error creating {type} '{id}': the connection was lost before the answer came",
    }

    def same_name(self, text: str) -> str:
        return _path(text)

    def default_id(self, type_: str, values: Mapping[str, Any]) -> str:
        name = type_.split("/")[1].split(":")[0]
        own = values.get("name") or values.get(f"{name}Id") or digits(repr(sorted(values.items())), 12)
        places = [f"{place}s/{values[place]}" for place in ("region", "zone", "location") if place in values]
        return "/".join([f"projects/{values.get('project', '-')}", *(places or ["global"])[-1:], f"{name}s", str(own)])

    def switched_on(self, world: World, record: Record) -> None:
        api = APIS.get(record.type.split(":")[1].split("/")[0])
        if api and (project := record.outputs.get("project")):
            _api_is_on(world, str(project), api)

    def plausible(self, type_: str, name: str, expected: Any, values: Mapping[str, Any]) -> Plain:
        if name == "selfLink":
            service = {"compute": "www.googleapis.com/compute/v1"}.get(type_.split(":")[1].split("/")[0])
            return f"https://{service or 'container.googleapis.com/v1'}/{values['id']}"
        if name == "deletionPolicy":
            return "DELETE"
        return super().plausible(type_, name, expected, values)

    def function(self, name: str, arguments: Mapping[str, Plain]) -> Properties | None:
        project = str(arguments.get("projectId") or arguments.get("project") or self.settings.get("project"))
        region = str(arguments.get("region") or self.settings.get("region"))
        answers: dict[str, Properties] = {
            "gcp:organizations/getProject:getProject": {
                "id": f"projects/{project}",
                "projectId": project,
                "name": project,
                "number": digits(project, 12),
            },
            "gcp:compute/getZones:getZones": {
                "id": f"projects/{project}/regions/{region}",
                "project": project,
                "region": region,
                "names": [f"{region}-{zone}" for zone in "bcd"],
            },
        }
        return answers.get(name)

    async def delete(self, request: DeleteRequest) -> None:
        policy = plain_map(request.properties).get("deletionPolicy")
        if policy == "PREVENT":
            raise PluginError(f"{request.name}: its deletionPolicy is PREVENT, so it cannot be deleted")
        if policy != "ABANDON":
            await super().delete(request)


def plugin() -> Gcp:
    """The stand-in, ready to be served."""
    return Gcp("gcp", metadata.version("pulumi_gcp"), KINDS)


if __name__ == "__main__":
    serve(plugin(), sys.argv[1:])
