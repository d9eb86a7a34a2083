"""The toolchain without network, Go or root: keys, the lock, what an interrupt leaves, packages, layers, charts."""

import fcntl
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import tools
from settings.external import Squid
from tools import build, cache, charts, images, packages, storage
from tools.__main__ import main
from tools.errors import CommandFailed, ToolsError
from tools.families import FAMILIES, ISTIO_VERSION, Family
from tools.part import Part
from tools.progress import Progress
from tools.workshop import Workshop


class Recorder(Progress):
    """Keeps the lines instead of showing them."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@dataclass(frozen=True)
class Greeting(Part):
    """A part that needs no toolchain; with `then`, an exception ends its making half-way."""

    then: BaseException | None = None
    needed: tuple[Part, ...] = ()

    @property
    def needs(self) -> tuple[Part, ...]:
        return self.needed

    def inputs(self) -> Iterable[bytes]:
        yield self.name.encode()

    def make(self, result: Path, workshop: Workshop) -> None:
        (result / "greeting").write_text("hello")
        workshop.run(["sh", "-c", "echo working; exit 0"])
        if self.then:
            raise self.then


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MESHGATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MESHGATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert tools.cache_dir() == Path("/somewhere/meshgate")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert tools.cache_dir() == Path.home() / ".cache" / "meshgate"


# Keys


@pytest.fixture
def family(tmp_path: Path) -> Family:
    source = tmp_path / "family"
    (source / "sub").mkdir(parents=True)
    for name in ("go.mod", "go.sum", "sub/main.go"):
        (source / name).write_text(name)
    return Family("example", source, ("example.com/program",))


@pytest.mark.parametrize("name", ["go.mod", "go.sum", "sub/main.go", "sub/new.go"])
def test_key_changes_with_every_file(family: Family, name: str) -> None:
    before = family.key
    (family.source / name).write_text("changed")
    assert family.key != before


def test_key_changes_with_what_is_built_and_with_what_is_needed(family: Family) -> None:
    keys = {
        family.key,
        replace(family, packages=("example.com/other",)).key,
        replace(family, version=(("example.com/version.Version", "v2"),)).key,
        replace(family, tags=("minimal",)).key,
    }
    assert len(keys) == 4
    assert Greeting("a", needed=(family,)).key != Greeting("a").key


def test_key_does_not_depend_on_where_the_checkout_is(family: Family, tmp_path: Path) -> None:
    moved = family.source.rename(tmp_path / "moved")
    assert replace(family, source=moved).key == Family("example", moved, family.packages).key
    assert len(family.key) == 16


def test_versions_in_programs_come_from_go_mod() -> None:
    versions = {family.name: dict(family.version) for family in FAMILIES}
    assert versions["kubernetes"]["k8s.io/component-base/version.gitVersion"] == "v1.34.4"
    assert versions["pulumi"]["github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"] == "v3.215.0"


# Building


def test_build_makes_what_is_needed_first_and_only_once() -> None:
    first = Greeting("first")
    second = Greeting("second", needed=(first,))
    progress = Recorder()
    build.build([first, second], progress)
    assert (first.directory / "greeting").read_text() == "hello"
    assert second.built
    assert [line for line in progress.lines if line.endswith("...")] == ["[1/2] first ...", "[2/2] second ..."]
    again = Recorder()
    build.build([first, second], again)
    assert again.lines == ["nothing to build: all is in the cache"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ToolsError("no"), SystemExit(1)])
def test_interrupted_build_leaves_nothing_half_made(end: BaseException, own_cache: Path) -> None:
    part = Greeting("part", then=end)
    with pytest.raises(type(end)):
        build.build([part], Recorder())
    assert not part.built
    assert not (own_cache / "staging").exists()
    build.build([Greeting("part")], Recorder())
    assert part.built


def test_killed_build_leaves_no_key_and_the_next_one_cleans_up(own_cache: Path) -> None:
    """What kill -9 leaves: a staging directory that nobody removed."""
    left = own_cache / "staging" / "old" / "result"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    build.build([Greeting("part")], Recorder())
    assert not left.exists()
    assert [path.name for path in Greeting("part").directory.iterdir()] == ["greeting"]


def test_command_ends_with_its_build(tmp_path: Path) -> None:
    """The kernel ends a running command when the process that builds is killed."""
    script = (
        "from pathlib import Path\nfrom tools.workshop import Workshop\n"
        f"Workshop(Path({str(tmp_path)!r}), Path({str(tmp_path / 'log')!r}), print)"
        ".run(['sh', '-c', 'echo $$ >&2; exec sleep 60'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout
        pid = int(process.stdout.readline())  # the first tick repeats the command's last line
        process.kill()
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() or ") Z " in Path(f"/proc/{pid}/stat").read_text():
            return
        threading.Event().wait(0.05)
    pytest.fail(f"process {pid} is still there")


def test_failure_names_part_command_last_lines_and_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(CommandFailed) as failure:
        Workshop(tmp_path, log, lambda _: None).run(["sh", "-c", "for i in $(seq 30); do echo line $i; done; exit 3"])
    message = str(failure.value)
    assert "`sh` failed with exit status 3" in message
    assert "line 30" in message
    assert "line 11\n" in message
    assert "line 10\n" not in message
    assert str(log) in message


def test_failed_part_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "PARTS", (Greeting("example", then=ToolsError("the reason")),))
    assert main(["build"]) == 1
    assert "error: example could not be built: the reason" in capsys.readouterr().err


def test_second_build_waits_and_says_for_whom(own_cache: Path) -> None:
    own_cache.mkdir()
    progress = Recorder()
    with (own_cache / "lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        holder.write("pid 4711 since 2026-01-02 03:04:05 (python -m tools build)\n")
        holder.flush()
        waiting = threading.Thread(target=build.build, args=([Greeting("part")], progress))
        waiting.start()
        while not progress.lines:
            waiting.join(0.01)
        assert not Greeting("part").built
    waiting.join(10)
    assert "waiting for another build" in progress.lines[0]
    assert "pid 4711 since 2026-01-02 03:04:05" in progress.lines[0]
    assert Greeting("part").built
    assert f"pid {os.getpid()} since" in (own_cache / "lock").read_text()


def test_step_gives_a_sign_of_life_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 31.0, 40.0, 62.0, 65.0])
    monkeypatch.setattr("tools.progress.time.monotonic", lambda: next(times))
    progress = Recorder()
    with progress.step("[1/2] kubernetes") as step:
        for _ in range(4):
            step.tick("k8s.io/api")
    assert progress.lines == [
        "[1/2] kubernetes ...",
        "[1/2] kubernetes 31 s: k8s.io/api",
        "[1/2] kubernetes 62 s: k8s.io/api",
        "[1/2] kubernetes done in 65 s",
    ]


def test_prune_keeps_what_is_in_use(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Greeting("part")
    monkeypatch.setattr(build, "PARTS", (part,))
    build.build([part], Recorder())
    old = part.directory.parent / "0123456789abcdef"
    old.mkdir()
    build.prune(Recorder())
    assert part.built
    assert not old.exists()


# Finding


def test_not_built_says_what_to_do() -> None:
    with pytest.raises(tools.NotBuilt, match=r"kubectl is not built yet .*run `make tools`"):
        tools.program("kubectl")
    for ask in (tools.programs_path, tools.charts_dir, tools.registry_dir):
        with pytest.raises(tools.NotBuilt, match="make tools"):
            ask()


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"pulumi", "kubernetes", "istio", "envoy", "charts", "images"} <= {row["name"] for row in rows}
    assert not any(row["built"] for row in rows)


def test_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "kubernets"]) == 1
    assert "no such part: kubernets; there are envoy, " in capsys.readouterr().err


# Packages


class Apt:
    """Plays dpkg-query and apt-get; remembers the commands and whether the policy was there."""

    def __init__(self, policy: Path, fail: str = "") -> None:
        self.policy, self.fail = policy, fail
        self.commands: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        self.commands.append(list(command))
        if command[0] == "dpkg-query":
            rows = [f"{name} installed" for name in packages.PACKAGES if name not in ("runc", "etcd-server")]
            return subprocess.CompletedProcess(command, 1, "\n".join([*rows, "runc config-files"]))
        if command[0] == "apt-get":
            assert self.policy.exists()
        failed = self.fail and self.fail in command
        return subprocess.CompletedProcess(
            command, 100 if failed else 0, "E: Unable to locate package" if failed else ""
        )


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.packages.os.geteuid", lambda: 0)
    monkeypatch.setattr("tools.packages.shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("root")
def test_packages_are_installed_without_starting_services(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    apt = Apt(policy)
    packages.install(Recorder(), apt, policy)
    install = next(command for command in apt.commands if "install" in command)
    assert install[-3:] == ["--no-install-recommends", "etcd-server", "runc"]
    assert ["systemctl", "disable", "etcd"] in apt.commands
    assert ["systemctl", "disable", "containerd"] not in apt.commands
    assert not policy.exists()


@pytest.mark.usefixtures("root")
def test_policy_is_removed_when_installing_fails(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    with pytest.raises(ToolsError, match="Unable to locate package"):
        packages.install(Recorder(), Apt(policy, fail="install"), policy)
    assert not policy.exists()


@pytest.mark.usefixtures("root")
def test_policy_of_the_machine_is_left_alone(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 0\n")
    packages.install(Recorder(), Apt(policy), policy)
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


@pytest.mark.usefixtures("root")
def test_policy_that_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    policy.write_text(packages.POLICY_TEXT)
    packages.install(Recorder(), Apt(policy), policy)
    assert not policy.exists()


@pytest.mark.usefixtures("root")
def test_without_root_the_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.packages.os.geteuid", lambda: 1000)
    with pytest.raises(ToolsError, match=r"only root can install .* by other means: etcd-server runc"):
        packages.install(Recorder(), Apt(tmp_path / "none"), tmp_path / "none")


# Charts and images


def test_chart_gets_the_version_in_place_of_the_placeholder(tmp_path: Path) -> None:
    chart = tmp_path / "Chart.yaml"
    chart.write_text("apiVersion: v2\nname: base\nversion: 1.0.0\nappVersion: 1.0.0\n")
    charts.stamp_version(chart, ISTIO_VERSION)
    assert yaml.safe_load(chart.read_text())["version"] == ISTIO_VERSION
    with pytest.raises(ToolsError, match="no placeholder"):
        charts.stamp_version(chart, "2.0.0")


def test_image_names_as_a_mirror_sees_them() -> None:
    by_name = {image.name: (image.repository, image.tag) for image in images.IMAGES}
    assert by_name["registry.k8s.io/pause:3.10"] == ("pause", "3.10")
    assert by_name["docker.io/istioinaction/webapp:latest"] == ("istioinaction/webapp", "latest")
    assert by_name["registry.istio.io/release/proxyv2:1.31.1"] == ("release/proxyv2", "1.31.1")
    assert by_name["docker.io/library/nginx:1.29"] == ("library/nginx", "1.29")
    assert by_name["docker.io/youngwjung/flask-echo:latest"] == ("youngwjung/flask-echo", "latest")
    assert by_name[Squid().image] == ("ubuntu/squid", "6.6-24.04_edge")


def test_layers_are_equal_for_equal_files(tmp_path: Path) -> None:
    files = {"/usr/bin/b": storage.Written("b"), "/a": storage.Written("a")}
    one = storage.write_layer(files, tmp_path / "one.tar").read_bytes()
    other = storage.write_layer(dict(reversed(files.items())), tmp_path / "other.tar").read_bytes()
    assert one == other
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert tar.getnames() == ["a", "usr", "usr/bin", "usr/bin/b"]
        assert {member.mtime for member in tar} == {0}


def test_image_in_the_registry_is_complete(tmp_path: Path) -> None:
    """Everything that a pull asks for is found by following the links and digests."""
    (tmp_path / "scratch").mkdir()
    storage.Storage(tmp_path / "v2", tmp_path / "scratch").add(
        storage.Image("docker.io/a/b:1", {"/x": storage.Written("x")}, {"User": "1"})
    )

    def blob(digest: str) -> bytes:
        hexadecimal = digest.removeprefix("sha256:")
        return (tmp_path / "v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data").read_bytes()

    repository = tmp_path / "v2/repositories/a/b"
    digest = (repository / "_manifests/tags/1/current/link").read_text()
    assert (repository / "_manifests/revisions" / digest.replace(":", "/") / "link").read_text() == digest
    manifest = json.loads(blob(digest))
    for part in (manifest["config"], *manifest["layers"]):
        assert len(blob(part["digest"])) == part["size"]
        assert (repository / "_layers" / part["digest"].replace(":", "/") / "link").is_file()
    config = json.loads(blob(manifest["config"]["digest"]))
    assert config["config"]["User"] == "1"
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]


def test_copies_of_read_only_files_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    (tmp_path / "module" / "file").write_text("")
    (tmp_path / "module" / "file").chmod(0o444)
    cache.copy_tree(tmp_path / "module", tmp_path / "copy")
    assert os.access(tmp_path / "copy" / "file", os.W_OK)
    assert (tmp_path / "copy" / "file").stat().st_mode & 0o200
