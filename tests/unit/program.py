"""Runs the Pulumi program with mocks and keeps everything that it sent to the engine."""

from __future__ import annotations

import asyncio
import base64
import contextvars
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf import json_format  # type: ignore[import-untyped]
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.stack import Stack

import stacks
from settings import load
from tests.unit import mesh_ca

# `run` raises what goes wrong within an apply; asyncio would say it once more at the end of the test session.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

UPSTREAM: Mapping[str, Any] = {
    "network_contract": 1,
    "network_network": "https://www.googleapis.com/compute/v1/projects/base/global/networks/vpc",
    "network_subnets": {
        "nodes": "https://www.googleapis.com/compute/v1/projects/base/regions/europe-west1/subnetworks/nodes",
        "gateway": "https://www.googleapis.com/compute/v1/projects/base/regions/europe-west1/subnetworks/gateway",
        "public/eu-central-1a": "subnet-1",
        "public/eu-central-1b": "subnet-2",
        "private/eu-central-1a": "subnet-3",
        "private/eu-central-1b": "subnet-4",
    },
    "network_ranges": {"pods": "pods", "services": "services", "gateway_pods": "gateway-pods"},
    "network_cidrs": {
        "nodes": "10.0.0.0/24",
        "pods": "10.1.0.0/16",
        "services": "10.2.0.0/20",
        "control_plane": "10.5.0.0/28",
        "gateway": "10.0.1.0/28",
        "gateway_pods": "10.3.0.0/20",
        "vpc": "10.0.0.0/16",
    },
    "network_node_accounts": {
        "application": "app-nodes@base.iam.gserviceaccount.com",
        "gateway": "gw-nodes@base.iam.gserviceaccount.com",
    },
    "network_security_groups": {"application": "sg-1", "gateway": "sg-2", "control_plane": "sg-3"},
    "network_dns_zones": {"example.com": "Z0EXAMPLE"},
    "network_image_prefixes": {"docker.io": "europe-west1-docker.pkg.dev/base/docker-io"},
    "cluster_contract": 1,
    "cluster_identifier": "base",
    "cluster_kubeconfig": "kind: Config",
    "cluster_pod_cidr": "10.1.0.0/16",
    "cluster_service_cidr": "10.2.0.0/20",
    "cluster_name": "cluster9",
    "cluster_location": "europe-west1",
    "gateway_pool_contract": 1,
    "gateway_pool_labels": {"pool": "edge"},
    "gateway_pool_taint": {"key": "pool", "value": "edge", "effect": "NoExecute"},
    "authority_contract": 2,
    "authority_namespace": "istio-control",
    "authority_root_certificate": "<certificate base-root>",
    "authority_status": "signed",
    "authority_generations": {"2026": {"status": "active", "request": "<request>"}},
    "mesh_contract": 1,
    "mesh_namespace": "istio-control",
    "mesh_revision_tag": "canary",
    "mesh_revision": "1-31-1",
    "mesh_moved": {},
    "mesh_trust_domain": "cluster.local",
    "mesh_control_plane_cidrs": [],
    "egress_contract": 1,
    "egress_namespace": "out",
    "egress_service": "istio-egressgateway.out.svc.cluster.local",
    "egress_gateway": "out/egress-gateway",
    "egress_selector": {"istio": "egressgateway"},
    "egress_identity": "spiffe://cluster.local/ns/out/sa/istio-egressgateway",
    "egress_target_ports": {"http": 8080, "tls": 8443},
    "egress_originate_subset": "originate-tls",
    "teams_contract": 1,
    "teams_namespaces": {"team-x": ["team-x"], "team-y": ["team-y", "team-y-batch"]},
}
"""Outputs of another stack that holds all layers below the scenarios."""

AWS_OUTPUTS: Mapping[str, Mapping[str, Any]] = {
    "aws:ec2/vpc:Vpc": {"ownerId": "123456789012"},
    "aws:ec2/vpcEndpoint:VpcEndpoint": {"prefixListId": "<prefix list>"},
    "aws:ecr/pullThroughCacheRule:PullThroughCacheRule": {"registryId": "123456789012"},
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
    "aws:eks/cluster:Cluster": {
        "arn": "arn:aws:eks:eu-central-1:123456789012:cluster/cluster1",
        "endpoint": "https://<endpoint>",
        "certificateAuthority": {"data": "<CA>"},
        "identities": [{"oidcs": [{"issuer": "https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLE"}]}],
    },
    "aws:kms/key:Key": {"keyId": "<id of the key>"},
}
"""What AWS says of resources besides their inputs, id and ARN."""

SECRET_SIGNATURE = "1b47061264138c4ac30d75fd1eb44270"
SIGNATURE_KEY = "4dabf18193072939515e22adb298388d"


@dataclass
class Registered:
    """A resource as the program registered it."""

    type: str
    name: str
    inputs: dict[str, Any]
    """Plain values, names as on the wire; secrets are unwrapped."""

    secrets: set[str]
    """Paths of the inputs that are marked secret, for example stringData.tls.key."""

    parent: str
    """The parent's name; empty for what stands at the top of the stack."""

    protect: bool
    dependencies: set[str]
    """Names of the resources that come first."""

    provider: str
    """Name of the provider resource, if the resource has one of its own."""

    read: bool
    """Whether it is read (`get`), not made."""

    ignored: tuple[str, ...] = ()
    """Inputs whose changes are ignored."""

    create_timeout: str = ""
    """How long it may take to make it; empty for the provider's own limit."""

    outputs: set[str] | None = None
    """What register_outputs said; None when it was never called."""


@dataclass
class Program:
    """What one run registered."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    secret_outputs: set[str] = field(default_factory=set)

    def one(self, name: str) -> Registered:
        """The one resource of this name."""
        (found,) = [resource for resource in self.resources if resource.name == name]
        return found

    def of(self, type_: str) -> list[Registered]:
        """All resources whose type ends so."""
        return [resource for resource in self.resources if resource.type.endswith(type_)]


class _Mocks(pulumi.runtime.Mocks):
    """Outputs that the program goes on with, each telling what it belongs to."""

    def __init__(
        self, references: Mapping[str, Mapping[str, Any]], secret_outputs: Collection[str], balancer: Mapping[str, str]
    ) -> None:
        self.references = references
        self.secret_outputs = secret_outputs
        self.balancer = balancer

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = dict(args.inputs)
        kind = args.typ.rsplit(":", 1)[1]
        if kind == "PrivateKey":
            outputs["privateKeyPem"] = f"<key {args.name}>"
            outputs["publicKeyFingerprintSha256"] = f"<fingerprint {args.name}>"
        elif kind == "CertRequest":
            # Those that an administrator signs are real: the program compares them with their chains.
            inside = args.name.endswith("-intermediate-request")
            outputs["certRequestPem"] = f"<request {args.name}>" if inside else mesh_ca.request(args.name)
        elif kind in ("SelfSignedCert", "LocallySignedCert"):
            outputs["certPem"] = f"<certificate {args.name}>"
        elif kind == "Release":
            outputs["status"] = {"name": args.inputs["name"], "namespace": args.inputs["namespace"]}
        elif args.typ == "kubernetes:core/v1:Service" and args.resource_id:
            outputs["spec"] = {
                "ports": [
                    {"name": "http2", "port": 80, "nodePort": 31080},
                    {"name": "https", "port": 443, "nodePort": 31443},
                ]
            }
            outputs["status"] = {"loadBalancer": {"ingress": [self.balancer]}}
        elif args.typ == "kubernetes:core/v1:Service":
            outputs["spec"] = {"clusterIP": "10.2.0.99", **args.inputs["spec"]}
        elif kind == "Job":
            outputs["status"] = {"succeeded": 1}
        elif args.inputs.get("type") == "kubernetes.io/service-account-token":
            filled_in = {"token": f"<token {args.name}>", "ca.crt": "<CA of the cluster>"}
            outputs["data"] = {
                key: base64.b64encode(value.encode()).decode()
                for key, value in filled_in.items()
                if not pulumi.runtime.is_dry_run()
            }
        elif kind == "Account":
            outputs["email"] = f"{args.inputs['accountId']}@{args.inputs['project']}.iam.gserviceaccount.com"
            outputs["name"] = f"projects/{args.inputs['project']}/serviceAccounts/{outputs['email']}"
        elif kind == "Bucket":
            outputs["projectNumber"] = 123456789012
        elif args.typ == "gcp:container/cluster:Cluster":
            outputs["endpoint"] = "<address>"
            outputs["masterAuth"] = {"clusterCaCertificate": "<CA>"}
            endpoints = outputs["controlPlaneEndpointsConfig"]
            endpoints["dnsEndpointConfig"] = {**endpoints["dnsEndpointConfig"], "endpoint": "<name>"}
        elif args.typ.startswith("gcp:compute/"):
            outputs["selfLink"] = f"<link {args.name}>"
        elif args.typ == "aws:route53/zone:Zone":
            outputs["zoneId"] = args.resource_id or f"{args.name}-id"
        elif args.typ == "aws:route53/record:Record":
            outputs["fqdn"] = args.inputs["name"]
        elif args.typ == "aws:acm/certificate:Certificate":
            outputs["domainValidationOptions"] = [
                {
                    "domainName": name,
                    "resourceRecordName": f"_proof.{name.removeprefix('*.')}.",
                    "resourceRecordType": "CNAME",
                    "resourceRecordValue": f"_{name.removeprefix('*.')}.acm-validations.aws.",
                }
                for name in [args.inputs["domainName"], *args.inputs.get("subjectAlternativeNames", [])]
            ]
        elif args.typ == "pulumi:pulumi:StackReference":
            outputs["outputs"] = dict(self.references[args.inputs["name"]])
            outputs["secretOutputNames"] = sorted(self.secret_outputs)
        if args.typ.startswith("aws:"):
            outputs = (
                {"arn": f"<arn {args.name}>", "name": f"{args.name}-name"}
                | outputs
                | dict(AWS_OUTPUTS.get(args.typ, {}))
            )
        return args.resource_id or f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token == "aws:lb/getHostedZoneId:getHostedZoneId":
            return {"id": f"<zone of {args.args['loadBalancerType']} balancers>"}, []
        raise AssertionError(f"the program calls {args.token}, which nothing is known of")


class _Monitor(MockMonitor):
    def __init__(self, mocks: _Mocks, program: Program) -> None:
        super().__init__(mocks)
        self.program = program

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            inputs = json_format.MessageToDict(request.object)
            self.program.resources.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    inputs=_plain(inputs),
                    secrets=set(_secrets(inputs)),
                    parent=_name(request.parent),
                    protect=request.protect,
                    dependencies={_name(urn) for urn in request.dependencies},
                    provider=_name(request.provider.rsplit("::", 1)[0]) if request.provider else "",
                    read=False,
                    ignored=tuple(request.ignoreChanges),
                    create_timeout=request.customTimeouts.create,
                )
            )
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]

    def ReadResource(self, request: Any) -> Any:
        self.program.resources.append(
            Registered(
                type=request.type,
                name=request.name,
                inputs={"id": request.id},
                secrets=set(),
                parent=_name(request.parent),
                protect=False,
                dependencies={_name(urn) for urn in request.dependencies},
                provider=_name(request.provider.rsplit("::", 1)[0]) if request.provider else "",
                read=True,
            )
        )
        return super().ReadResource(request)  # type: ignore[no-untyped-call]

    def RegisterResourceOutputs(self, request: Any) -> Any:
        name = _name(request.urn)
        if name:
            self.program.one(name).outputs = set(json_format.MessageToDict(request.outputs))
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call]


def run(
    config: Mapping[str, Any],
    *,
    stack: str = "dev",
    references: Mapping[str, Mapping[str, Any]] | None = None,
    secret_outputs: Collection[str] = (),
    balancer: Mapping[str, str] | None = None,
    preview: bool = False,
) -> Program:
    """Run the program with this configuration; the rest is as in `build`."""
    return build(
        lambda: stacks.build(load(config)),
        stack=stack,
        references=references,
        secret_outputs=secret_outputs,
        balancer=balancer,
        preview=preview,
    )


def build(
    make: Callable[[], None],
    *,
    stack: str = "dev",
    references: Mapping[str, Mapping[str, Any]] | None = None,
    secret_outputs: Collection[str] = (),
    balancer: Mapping[str, str] | None = None,
    preview: bool = False,
) -> Program:
    """Run what makes resources: the whole program, or a component on its own.

    `references` are other stacks' outputs by stack name, `secret_outputs` those among them that are secret; `balancer`
    is where the load balancer puts every Service. In a preview what the cluster fills in is not there yet.

    `pulumi.runtime.test` awaits every registration and the returned Output, so what a test then looks at is complete,
    and an exception within an apply is raised here.
    """
    program = Program()
    mocks = _Mocks(references or {}, secret_outputs, balancer or {"ip": "203.0.113.100"})

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def made() -> pulumi.Output[Any]:
        pulumi.runtime.set_mocks(
            mocks, project="meshgate", stack=stack, preview=preview, monitor=_Monitor(mocks, program)
        )
        make()
        root = pulumi.runtime.get_root_resource()
        assert isinstance(root, Stack)
        return pulumi.Output.all(**{name: _exported(program, name, value) for name, value in root.outputs.items()})

    # The root resource is a context variable: each run gets one of its own, and so it does not export what others have
    # exported. And an event loop of its own: what a run that failed has left undone would go on in the next one's.
    assert pulumi.runtime.get_root_resource() is None, "a test before this one has set mocks in the context of all"
    with asyncio.Runner() as runner:
        runner.get_loop()
        contextvars.copy_context().run(made)
    return program


def _exported(program: Program, name: str, value: Any) -> pulumi.Output[Any]:
    output = pulumi.Output.from_input(value)

    async def secret() -> bool:
        return bool(await output.is_secret())

    def record(both: list[Any]) -> None:
        program.outputs[name] = both[0]
        if both[1]:
            program.secret_outputs.add(name)

    is_secret: pulumi.Input[bool] = secret()
    return pulumi.Output.all(output, is_secret).apply(record)


def _name(urn: str) -> str:
    name = urn.rsplit("::", 1)[-1]
    return "" if "pulumi:pulumi:Stack::" in urn else name


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(SIGNATURE_KEY) == SECRET_SIGNATURE:
            return _plain(value["value"])
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def _secrets(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        if value.get(SIGNATURE_KEY) == SECRET_SIGNATURE:
            yield path.removeprefix(".")
        else:
            for key, item in value.items():
                yield from _secrets(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _secrets(item, f"{path}[{index}]")
