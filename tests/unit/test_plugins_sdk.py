"""What the SDKs' own types say of a resource's inputs."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc
from pulumi.runtime.rpc import UNKNOWN

from lab.plugins import sdk

NODE_POOL = "gcp:container/nodePool:NodePool"


@pytest.mark.parametrize(
    ("token", "inputs", "problems"),
    [
        ("gcp:compute/network:Network", {"name": "a", "autoCreateSubnetworks": False, "mtu": 1460.0}, []),
        ("gcp:compute/network:Network", {"name": 5.0}, ["name must be a string, not a number"]),
        ("gcp:compute/network:Network", {"mtu": 1.5}, ["mtu must be a whole number, not a number"]),
        ("gcp:compute/network:Network", {"mtu": True}, ["mtu must be a whole number, not true or false"]),
        ("gcp:compute/network:Network", {"mtu": UNKNOWN, "autoCreateSubnetworks": UNKNOWN}, []),
        ("gcp:compute/network:Network", {"mtuu": 1.0}, ["mtuu is not a property of Network; did you mean mtu?"]),
        (NODE_POOL, {}, ["cluster is required by NodePool"]),
        (NODE_POOL, {"cluster": None}, ["cluster is required by NodePool"]),
        (NODE_POOL, {"cluster": "c", "nodeConfig": []}, ["nodeConfig must be an object, not a list"]),
        (
            NODE_POOL,
            {
                "cluster": "c",
                "nodeConfig": {"tags": ["a", 1.0], "labels": {"a": "b", "c": 2.0}, "taints": [{"key": "k"}]},
            },
            [
                "nodeConfig.tags[1] must be a string, not a number",
                "nodeConfig.labels.c must be a string, not a number",
                "nodeConfig.taints[0].effect is required by NodePoolNodeConfigTaint",
                "nodeConfig.taints[0].value is required by NodePoolNodeConfigTaint",
            ],
        ),
        ("kubernetes:core/v1:Namespace", {"metadata": {"name": 3.0}}, ["metadata.name must be a string, not a number"]),
        ("kubernetes:helm.sh/v3:Release", {}, ["chart is required by Release"]),
        ("tls:index/privateKey:PrivateKey", {"algorithm": "RSA", "rsaBits": 2048.0}, []),
        # A provider's inputs are JSON in strings on the wire.
        ("pulumi:providers:gcp", {"project": "p", "userProjectOverride": "true", "scopes": '["a"]'}, []),
        ("pulumi:providers:gcp", {"scopes": "[1]"}, ["scopes[0] must be a string, not a whole number"]),
        ("pulumi:providers:gcp", {"projekt": "p"}, ["projekt is not a property of Provider; did you mean project?"]),
    ],
)
def test_problems(token: str, inputs: dict[str, Any], problems: list[str]) -> None:
    assert [f"{path} {reason}" for path, reason in sdk.problems(token, inputs)] == problems


def test_no_value_is_said() -> None:
    inputs = {"cluster": ["s3cret"], "name": {"s3cret": "s3cret"}}
    assert "s3cret" not in str(list(sdk.problems(NODE_POOL, inputs)))


def test_assets() -> None:
    """As an object, or as on the wire; a plain text is none."""
    token = "gcp:storage/bucketObject:BucketObject"
    on_wire = {rpc._special_sig_key: rpc._special_asset_sig, "text": "a"}
    for asset in (pulumi.StringAsset("a"), on_wire):
        assert list(sdk.problems(token, {"bucket": "b", "source": asset})) == []
    assert list(sdk.problems(token, {"bucket": "b", "source": "a"})) != []


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("gcp:compute/netwrk:Netwrk", "pulumi_gcp has no resource type .*; did you mean gcp:compute/network:Network?"),
        ("nothing:a/b:B", "the SDK pulumi_nothing is not installed"),
    ],
)
def test_an_unknown_type(token: str, words: str) -> None:
    with pytest.raises(sdk.UnknownType, match=words):
        sdk.resource(token)


@pytest.mark.parametrize("module", ["compute", "container", "dns", "gkehub", "projects", "serviceaccount", "storage"])
def test_every_type_of_a_module_is_understood(module: str) -> None:
    sdk.resource("gcp:compute/network:Network")  # registers what the SDK has
    tokens = [
        token
        for key, registered in rpc._RESOURCE_MODULES.items()
        if key.startswith(f"gcp:{module}/")
        for entry in registered
        for token in vars(entry)["mod_info"]["classes"]
    ]
    assert len(tokens) > 4
    for token in tokens:
        assert sdk.required(token) <= sdk.inputs(token).keys(), token
        assert sdk.always(sdk.resource(token)) <= sdk.outputs(token).keys(), token
        # What is left out of the inputs may be missing from the outputs, what is required may not.
        assert sdk.required(token) <= sdk.always(sdk.resource(token)), token


def test_outputs_of_a_nested_object() -> None:
    auth = sdk.outputs("gcp:container/cluster:Cluster")["masterAuth"]
    assert sdk.always(auth) == {"clientCertificateConfig"}
