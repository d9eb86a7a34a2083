"""What the lab writes: configurations, certificates, manifests, cgroups; and what it says when a part fails."""

import json
import re
import stat
import tomllib
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from lab import bare, cgroups, cluster, dns, node, pki
from lab.errors import LabError, NotStarted
from lab.files import write
from lab.instance import Instance
from lab.topology import CONTROL_PLANE, NODES, SERVERS
from tools import families


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("MESHGATE_LAB_DIR", str(tmp_path))
    return Instance("test")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_write_replaces_in_one_step_and_hides_from_others(tmp_path: Path) -> None:
    path = write(tmp_path / "a" / "b", "one")
    write(path, "two")
    assert path.read_text() == "two"
    assert mode(path) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["b"]


def test_kubeconfig_stands_alone_and_is_reused(instance: Instance) -> None:
    path = pki.kubeconfig(instance, "admin", "admin", ["system:masters"])
    assert path == instance.kubeconfig
    assert mode(path) == 0o600
    content = path.read_text()
    config = json.loads(content)
    assert config["clusters"][0]["cluster"]["server"] == "https://10.5.0.2:6443"
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    assert pki.kubeconfig(instance, "admin", "admin", ["system:masters"]).read_text() == content


def test_certificates_chain_and_keys_are_private(instance: Instance) -> None:
    authority = pki.cluster_authority(instance)
    pair = authority.issue("web", "web", ["group"], ["web.test"], [CONTROL_PLANE])
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.read_bytes()))
    assert certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "group"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["web.test"]
    assert names.get_values_for_type(x509.IPAddress) == [CONTROL_PLANE]
    before = pair.certificate.read_bytes()
    assert authority.issue("web", "web").certificate.read_bytes() == before
    signing = pki.signing_key(authority.directory / "tokens.pem")
    assert {mode(path) for path in (authority.key, pair.key, signing)} == {0o600}


def test_resolver_knows_the_internet_and_nothing_else() -> None:
    corefile = dns.render_corefile("/k", "/z", "/h")
    assert corefile.index("kubernetes cluster.local") < corefile.index('file "/z" .')
    zone = dns.render_zone()
    assert all(f"{name}. IN A {address}\n" in zone for name, address in SERVERS.items())
    assert "mutual.example.com. IN A 198.51.100.30\n" in zone
    assert "www.envoyproxy.io. IN A 198.51.100.40\n" in zone


def test_resolver_is_built_with_the_plugins_that_it_is_asked_for() -> None:
    asked = re.findall(r"^ {4}(\w+)", dns.render_corefile("/k", "/z", "/h"), re.MULTILINE)
    built = re.findall(r'"github.com/coredns/coredns/plugin/(\w+)"', (families.COMMON / "coredns/main.go").read_text())
    assert sorted(asked) == built


def test_resolver_has_the_private_zone_of_googles_apis() -> None:
    zone = dns.render_zone()
    assert "*.googleapis.com. IN CNAME private.googleapis.com.\n" in zone
    assert all(f"private.googleapis.com. IN A 199.36.153.{n}\n" in zone for n in (8, 9, 10, 11))
    assert all(f"restricted.googleapis.com. IN A 199.36.153.{n}\n" in zone for n in (4, 5, 6, 7))
    assert zone.count("googleapis.com. IN A ") == 8
    assert "metadata.google.internal. IN A 169.254.169.254\n" in zone


def test_containerd_configuration() -> None:
    configuration = tomllib.loads(node.render_containerd("/plugins", "/net", "/mirrors"))
    cri = configuration["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["cni"] == {"bin_dir": "/plugins", "conf_dir": "/net"}
    assert cri["registry"]["config_path"] == "/mirrors"
    assert cri["restrict_oom_score_adj"] is True


def test_pod_network() -> None:
    network = json.loads(node.render_network(NODES[0]))
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.1.1.0/24"}]]
    assert network["plugins"][0]["ipMasq"] is False
    assert [it["type"] for it in network["plugins"]] == ["ptp", "portmap", "network-policy"]


def test_kubelet_configuration(instance: Instance) -> None:
    gateway = node.kubelet_configuration(instance, NODES[3], "/ca", "/cert", "/key")
    assert gateway["cgroupRoot"] == "/meshgate/test/gateway"
    assert gateway["registerWithTaints"] == [{"key": "dedicated", "value": "gateway", "effect": "NoSchedule"}]
    assert node.kubelet_configuration(instance, NODES[0], "", "", "")["registerWithTaints"] == []


def test_manifests_are_complete() -> None:
    documents = list(yaml.safe_load_all(cluster.manifests()))
    service = next(it for it in documents if it["kind"] == "Service")
    endpoints = next(it for it in documents if it["kind"] == "EndpointSlice")
    assert service["spec"]["clusterIP"] == "10.2.0.10"
    assert endpoints["endpoints"][0]["addresses"] == ["10.5.0.3"]
    assert {port["name"] for port in service["spec"]["ports"]} == {port["name"] for port in endpoints["ports"]}


def test_simulated_nodes_are_like_the_labs() -> None:
    items = yaml.safe_load(bare.nodes())["items"]
    assert [item["metadata"]["name"] for item in items] == [it.name for it in NODES]
    assert [item["spec"]["podCIDR"] for item in items] == [str(it.pods) for it in NODES]
    assert items[3]["spec"]["taints"] == [{"key": "dedicated", "value": "gateway", "effect": "NoSchedule"}]


def test_stages_name_each_state_once() -> None:
    stages = list(yaml.safe_load_all(bare.STAGES.read_text()))
    assert len({stage["metadata"]["name"] for stage in stages}) == len(stages)
    assert {stage["spec"]["resourceRef"]["kind"] for stage in stages} == {"Node", "Pod"}


def test_a_part_that_fails_is_named_with_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "app-1-kubelet.log"
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    message = str(NotStarted("app-1-kubelet", "ended right after its start", log))
    assert message.startswith("app-1-kubelet ended right after its start.")
    assert "line 99" in message
    assert "line 80\n" not in message
    assert message.endswith(f"The whole log: {log}")
    assert "(empty)" in str(NotStarted("x", "failed", tmp_path / "none"))


def test_a_lab_cannot_change_its_kind(instance: Instance) -> None:
    cluster._remember_kind(instance, is_bare=True)
    cluster._remember_kind(instance, is_bare=True)
    with pytest.raises(LabError, match=r"is a bare one, not a full one: run .* down"):
        cluster._remember_kind(instance, is_bare=False)


def test_cgroups_of_v1_are_made_in_every_hierarchy(tmp_path: Path) -> None:
    for hierarchy in ("cpu", "memory", "unified"):
        (tmp_path / hierarchy).mkdir()
    cgroups.create("meshgate/dev/app-1", tmp_path)
    cgroups.create("meshgate/other/app-1", tmp_path)
    assert (tmp_path / "memory" / "meshgate" / "dev" / "app-1").is_dir()
    cgroups.delete("meshgate/dev", tmp_path)
    assert [path.name for path in (tmp_path / "cpu" / "meshgate").iterdir()] == ["other"]
    cgroups.delete("meshgate/other", tmp_path)
    assert list((tmp_path / "unified").iterdir()) == []


def test_cgroups_of_v2_hand_their_controllers_down(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    cgroups.create("meshgate", tmp_path)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu +memory"
    assert (tmp_path / "meshgate").is_dir()
