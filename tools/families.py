"""The Go programs, in families that are built together.

Six of them share one go.mod (`common`), so that Kubernetes' libraries are compiled once for all of them. Each of the
others needs versions or `replace` lines that clash with theirs.
"""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.cache import copy_tree
from tools.errors import ToolsError
from tools.part import Part, files_below
from tools.workshop import GO_ENVIRONMENT, Workshop

HERE = Path(__file__).parent
COMMON = HERE / "common"
ISTIO_VERSION = "1.31.1"  # what the pinned commit of istio.io/istio was released as; the module has no such tag
ISTIO_MODULE = "istio.io/istio"


@dataclass(frozen=True)
class ModuleFile:
    """A file that a family takes out of one of its modules: `path` in `module`, copied to `target`."""

    module: str
    path: str
    target: str
    mode: int = 0o644


@dataclass(frozen=True)
class Family(Part):
    """Programs that are built together from the go.mod in `source`.

    packages: what `go build` makes, one program each; version: name of a string variable -> its value;
    embedded: copied into the sources before the build; beside: copied to the programs; tags: build tags.
    """

    source: Path
    packages: tuple[str, ...]
    version: tuple[tuple[str, str], ...] = ()
    embedded: tuple[ModuleFile, ...] = ()
    beside: tuple[ModuleFile, ...] = ()
    tags: tuple[str, ...] = ()

    def inputs(self) -> Iterable[bytes]:
        yield repr((self.packages, self.version, self.embedded, self.beside, GO_ENVIRONMENT)).encode()
        yield from (tag.encode() for tag in self.tags)
        yield from files_below(self.source)

    def make(self, result: Path, workshop: Workshop) -> None:
        if not shutil.which("go"):
            raise ToolsError("`go` is not on PATH: install Go 1.21 or newer (tools/README.md says which versions work)")
        # A copy, so that embedded files and whatever Go writes never land in the checkout.
        source = workshop.scratch / "source"
        copy_tree(self.source, source)
        for file in self.embedded:
            shutil.copyfile(workshop.module_dir(file.module, source) / file.path, source / file.target)
        stamps = [f"-X {variable}={value}" for variable, value in self.version]
        workshop.run(
            [
                *("go", "build", "-v", "-tags", ",".join(self.tags)),
                *("-ldflags", " ".join(["-s", "-w", *stamps]), "-o", f"{result}/", *self.packages),
            ],
            cwd=source,
            env=GO_ENVIRONMENT,
        )
        for file in self.beside:
            shutil.copyfile(workshop.module_dir(file.module, source) / file.path, result / file.target)
            (result / file.target).chmod(file.mode)


def _pinned(family: str, module: str) -> str:
    """The version of a module that a family's go.mod names, such as `v1.34.4`."""
    go_mod = HERE / family / "go.mod"
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if not found:
        raise ToolsError(f"{go_mod} does not require {module}")
    return found[1]


def _kubernetes_version() -> tuple[tuple[str, str], ...]:
    version = _pinned("kubernetes", "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".", 2)
    prefix = "k8s.io/component-base/version.git"
    return ((f"{prefix}Version", version), (f"{prefix}Major", major), (f"{prefix}Minor", minor))


_PULUMI_SDK = "github.com/pulumi/pulumi/sdk/v3"
_PULUMI_KUBERNETES = "github.com/pulumi/pulumi-kubernetes/provider/v4"
_PLUGIN = "pulumi-resource-kubernetes"

ISTIO = Family(
    "istio",
    COMMON,
    (
        "istio.io/istio/pilot/cmd/pilot-discovery",
        "istio.io/istio/pilot/cmd/pilot-agent",
        "istio.io/istio/istioctl/cmd/istioctl",
    ),
    version=(
        (f"{ISTIO_MODULE}/pkg/version.buildVersion", ISTIO_VERSION),
        (f"{ISTIO_MODULE}/pkg/version.buildTag", ISTIO_VERSION),
        (f"{ISTIO_MODULE}/pkg/version.buildStatus", "Clean"),
    ),
    beside=(ModuleFile(ISTIO_MODULE, "tools/packaging/common/envoy_bootstrap.json", "envoy_bootstrap.json"),),
)
RATELIMIT = Family("ratelimit", HERE / "ratelimit", ("github.com/envoyproxy/ratelimit/src/service_cmd",))
PROMETHEUS_RELEASE = "3.11.3"  # the module's v0.311.3
PROMETHEUS = Family(
    "prometheus",
    COMMON,
    ("github.com/prometheus/prometheus/cmd/prometheus",),
    version=(("github.com/prometheus/common/version.Version", PROMETHEUS_RELEASE),),
    # Of its ways to find targets the cluster's alone; the others are the clouds' SDKs.
    tags=("remove_all_sd", "enable_kubernetes_sd"),
)
JAEGER_RELEASE = "2.13.0"  # the module's v1.76.0 is this release, too: version 2's program lives beside version 1's
JAEGER = Family(
    "jaeger",
    HERE / "jaeger",
    ("github.com/jaegertracing/jaeger/cmd/jaeger",),
    version=(("github.com/jaegertracing/jaeger/internal/version.latestVersion", f"v{JAEGER_RELEASE}"),),
)
HTTPBIN = Family("httpbin", COMMON, ("github.com/mccutchen/go-httpbin/v2/cmd/go-httpbin",))
APPS = Family(
    "apps",
    HERE.parent / "lab" / "apps",
    tuple(
        f"./cmd/{program}"
        for program in ("pause", "catalog", "webapp", "echo", "productpage", "details", "reviews", "ratings")
    ),
)

FAMILIES: tuple[Family, ...] = (
    APPS,
    HTTPBIN,
    RATELIMIT,
    JAEGER,
    PROMETHEUS,
    Family(
        "pulumi-language-python",
        HERE / "pulumi-language-python",
        (f"{_PULUMI_SDK}/python/cmd/pulumi-language-python",),
        beside=tuple(
            ModuleFile(_PULUMI_SDK, f"python/{script}", Path(script).name, 0o755)
            for script in (
                "cmd/pulumi-language-python-exec",
                "dist/pulumi-analyzer-policy-python",
                "dist/pulumi-resource-pulumi-python",
            )
        ),
    ),
    Family("kwok", COMMON, ("sigs.k8s.io/kwok/cmd/kwok",)),
    Family(
        "kubernetes",
        HERE / "kubernetes",
        tuple(
            f"k8s.io/kubernetes/cmd/{program}"
            for program in (
                "kube-apiserver",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
                "kubectl",
            )
        ),
        version=_kubernetes_version(),
    ),
    Family("coredns", COMMON, ("./coredns",)),
    Family("vault", HERE / "vault", (".",), tags=("minimal",)),
    ISTIO,
    Family(
        "pulumi",
        HERE / "pulumi",
        ("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", f"./{_PLUGIN}"),
        version=((f"{_PULUMI_SDK}/go/common/version.Version", _pinned("pulumi", _PULUMI_SDK)),),
        # 40 MB of schema: taken from the pinned module at build time rather than committed.
        embedded=tuple(
            ModuleFile(_PULUMI_KUBERNETES, f"cmd/{_PLUGIN}/{name}", f"{_PLUGIN}/{name}")
            for name in ("schema.json", "terraform-mapping.json")
        ),
    ),
    Family(
        "helm",
        COMMON,
        ("helm.sh/helm/v3/cmd/helm",),
        version=(("helm.sh/helm/v3/internal/version.version", _pinned("common", "helm.sh/helm/v3")),),
    ),
)
