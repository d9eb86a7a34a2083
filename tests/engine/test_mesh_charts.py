"""What Istio's own chart makes of the mesh's values: the vendor's istiod as a Deployment (H8)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import tools
from components.mesh.hsm_kms import kms_values
from settings.authority import HsmKmsAuthority
from tests.unit.test_mesh_kms import AUTHORITY


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The pod that `helm template` gives for the kind hsm-kms."""
    file: Path = tmp_path_factory.mktemp("helm") / "values.yaml"
    values = {"revision": "asm-183-2", **kms_values(HsmKmsAuthority.model_validate(AUTHORITY))}
    file.write_text(yaml.safe_dump(values))
    command = [str(tools.program("helm")), "template", "istiod-asm-183-2", str(tools.charts_dir() / "istiod")]
    done = subprocess.run(
        [*command, "--namespace", "istio-system", "--values", str(file)], capture_output=True, text=True, check=True
    )
    (deployment,) = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def test_three_containers(pod: dict[str, Any]) -> None:
    assert [(one["name"], one["image"]) for one in pod["containers"]] == [("discovery", AUTHORITY["istiodImage"])]
    assert [(one["name"], one["image"], one["restartPolicy"]) for one in pod["initContainers"]] == [
        ("vault-client", AUTHORITY["vaultClientImage"], "Always"),
        ("hsm-plugin", AUTHORITY["pluginImage"], "Always"),
    ]
    assert pod["serviceAccountName"] == "istiod-asm-183-2"


def test_every_mount_has_its_volume(pod: dict[str, Any]) -> None:
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(volumes) == len(set(volumes))
    for container in (*pod["containers"], *pod["initContainers"]):
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    discovery = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert discovery["hsm-socket"] == "/var/run/hsm-socket"
    assert not discovery.keys() & {"hsm-credential", "vault-token"}


def test_token_is_for_vault(pod: dict[str, Any]) -> None:
    token = next(volume for volume in pod["volumes"] if volume["name"] == "vault-token")
    assert token["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "vault", "expirationSeconds": 3600, "path": "token"}}
    ]
