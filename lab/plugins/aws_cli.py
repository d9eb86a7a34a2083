"""The stand-in for the AWS CLI, which kubeconfigs of EKS clusters name: `aws eks get-token`, and nothing else.

The real one gives a token to anybody; who it is for, and whether there is such a cluster, the API server decides.
Here the lab's API server takes its administrator alone, so this looks in the simulated AWS whether the cluster is
there, and whether anybody may administer it. Clients run it often: it imports little.
"""

from __future__ import annotations

import argparse
import os
import sys

from lab.instance import Instance
from lab.plugins.amazon.tokens import ACCESS_POLICY, CLUSTER
from lab.plugins.exec_credential import printed
from lab.plugins.guard import refusal
from lab.plugins.store import Record, Store, World

ADMINISTRATOR = "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"


def refused(instance: Instance, name: str, region: str | None) -> str | None:
    """Why the API server of a cluster would not let anybody in, or None."""
    with Store(instance, "aws").open() as world:
        cluster = next((one for one in world.of(CLUSTER) if one.id == name), None)
        if cluster is None:
            return f"the simulated AWS has no cluster {name}"
        if region not in (None, cluster.outputs["region"]):
            return f"the cluster {name} is in {cluster.outputs['region']}, not in {region}"
        if not administered(world, cluster):
            return (
                f"Unauthorized: no access entry of the cluster {name} administers it, and its creator does not either"
            )
    return None


def administered(world: World, cluster: Record) -> bool:
    """Whether somebody may do everything in a cluster: its creator, or whom an access policy of all of it lets."""
    config = cluster.inputs.get("accessConfig") or {}
    return config.get("bootstrapClusterCreatorAdminPermissions", True) is not False or any(
        (one.inputs["clusterName"], one.inputs["policyArn"], one.inputs["accessScope"]["type"])
        == (cluster.id, ADMINISTRATOR, "cluster")
        for one in world.of(ACCESS_POLICY)
    )


def main(arguments: list[str]) -> int:
    """Print the credential; 1 outside the lab or without access, 2 for another command."""
    if reason := refusal(os.environ):
        print(f"aws here is a stand-in for meshgate's lab and refuses to work: {reason}", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(
        "aws", description="The stand-in of meshgate's lab: eks get-token and nothing else.", allow_abbrev=False
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--region", default=argparse.SUPPRESS)
    common.add_argument("--output", choices=["json"], default=argparse.SUPPRESS)
    parser.add_argument("--region", default=None)
    parser.add_argument("--output", choices=["json"])
    services = parser.add_subparsers(dest="service", required=True)
    eks = services.add_parser("eks", allow_abbrev=False).add_subparsers(dest="command", required=True)
    get_token = eks.add_parser("get-token", parents=[common], allow_abbrev=False)
    get_token.add_argument("--cluster-name", required=True)
    given = parser.parse_args(arguments)
    instance = Instance(os.environ["MESHGATE_LAB"])
    if reason := refused(instance, given.cluster_name, given.region):
        print(f"aws (stand-in of meshgate's lab): {reason}", file=sys.stderr)
        return 1
    print(printed())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
