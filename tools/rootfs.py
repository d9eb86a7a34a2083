"""The Debian root filesystems below the images that need more than one static program."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolsError
from tools.part import Part
from tools.workshop import Workshop

SUITE = "bookworm"
# mmdebstrap makes equal tars of equal packages; which versions those are is up to the Debian mirror on that day.
OPTIONS = (
    "--variant=essential",
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--include=ca-certificates",
    # With mmdebstrap's own hook for it, it stands in for usrmerge, which would bring all of Perl along.
    "--include=usr-is-merged",
    "--skip=output/dev",  # a container gets its devices from the runtime
)


@dataclass(frozen=True)
class RootFilesystem(Part):
    """Debian's essential packages and `options` of mmdebstrap: what else is in it."""

    options: tuple[str, ...]

    @property
    def tar(self) -> Path:
        return self.directory / "rootfs.tar"

    @property
    def shelf(self) -> str:
        return "rootfs"

    def inputs(self) -> Iterable[bytes]:
        yield repr((SUITE, OPTIONS, self.options)).encode()

    def make(self, result: Path, workshop: Workshop) -> None:
        try:
            # Namespaces of its own: when we are killed, nothing stays running or mounted inside the half-made tree.
            command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap"]
            workshop.run(
                [*command, *OPTIONS, *self.options, SUITE, result / "rootfs.tar"], env={"SOURCE_DATE_EPOCH": "0"}
            )
        except ToolsError as error:
            raise ToolsError(f"{error}\n  (it needs root and the packages of `python -m tools packages`)") from error


ROOTFS = RootFilesystem(
    "rootfs",
    (
        "--include=curl,iproute2,iptables",
        # Istio's base image has this user: the sidecar's redirect rules spare what runs as 1337.
        "--customize-hook=echo 'istio-proxy:x:1337:1337::/home/istio-proxy:/bin/sh' >> \"$1/etc/passwd\"",
        "--customize-hook=echo 'istio-proxy:x:1337:' >> \"$1/etc/group\"",
        '--customize-hook=install -d -o 1337 -g 1337 "$1/home/istio-proxy"',
    ),
)
SERVERS = RootFilesystem(
    "rootfs-servers",
    (
        "--include=nginx,squid,redis-server",
        # Squid's package brings Perl along, for helpers that nobody here calls.
        '--customize-hook=rm -r "$1"/usr/share/perl "$1"/usr/share/perl5 "$1"/usr/lib/*/perl "$1"/usr/lib/*/perl5',
    ),
)
