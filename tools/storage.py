"""What an image is made of, and how it is written as a docker-registry's storage.

Each image is a few tar layers and a config. They are written straight into the registry's storage (its layout is that
of distribution's registry/storage/paths.go, unchanged since version 2.0): no registry has to run for it, on no port,
and an interrupt leaves nothing to stop.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tools.part import Part
from tools.rootfs import RootFilesystem

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the kernel's names -> the images' names
SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Copied:
    """A file out of a built part's directory."""

    part: Part
    path: str
    mode: int = 0o755

    def read(self) -> bytes:
        return (self.part.directory / self.path).read_bytes()


@dataclass(frozen=True)
class Written:
    """A file given by its text, executable unless `mode` says otherwise."""

    text: str
    mode: int = 0o755

    def read(self) -> bytes:
        return self.text.encode()


@dataclass(frozen=True)
class Image:
    """One image: a layer with `files` (absolute path -> file), above the root filesystem `base` if there is one.

    `config` is the section of that name in the OCI image configuration.
    """

    name: str
    files: Mapping[str, Copied | Written]
    config: Mapping[str, Any] = field(default_factory=dict)
    base: RootFilesystem | None = None

    @property
    def repository(self) -> str:
        """The name as a registry sees it: without host and tag."""
        return self.name.partition("/")[2].rpartition(":")[0]

    @property
    def tag(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def needs(self) -> tuple[Part, ...]:
        """The parts that the image is made from."""
        parts = [file.part for file in self.files.values() if isinstance(file, Copied)]
        return (*parts, self.base) if self.base else tuple(parts)


@dataclass(frozen=True)
class Storage:
    """The files of a docker-registry below `root`."""

    root: Path
    scratch: Path

    def add(self, image: Image) -> None:
        layers = [image.base.tar] if image.base else []
        layers.append(write_layer(image.files, self.scratch / "layer.tar"))
        stored = [self.blob(image, path) for path in layers]
        config = {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": [SEARCH_PATH], **image.config},
            # Layers stay uncompressed (so their digests are the diff IDs): reading them is local, and cores are few.
            "rootfs": {"type": "layers", "diff_ids": [digest for digest, _ in stored]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", self.blob(image, as_json(config))),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer) for layer in stored],
        }
        digest, _ = self._store(as_json(manifest))
        manifests = self.root / "repositories" / image.repository / "_manifests"
        link(manifests / "revisions", digest)
        link(manifests / "tags" / image.tag / "index", digest)
        current = manifests / "tags" / image.tag / "current"
        current.mkdir(parents=True)
        (current / "link").write_text(digest)

    def blob(self, image: Image, content: Path | bytes) -> tuple[str, int]:
        """Store a layer or a config and make it part of the image's repository; returns digest and size in bytes."""
        digest, size = self._store(content)
        link(self.root / "repositories" / image.repository / "_layers", digest)
        return digest, size

    def _store(self, content: Path | bytes) -> tuple[str, int]:
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
            hexadecimal = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, io.SEEK_END)
        data = self.root / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal / "data"
        if not data.exists():
            data.parent.mkdir(parents=True)
            if isinstance(content, Path):
                data.hardlink_to(content)
            else:
                data.write_bytes(content)
        return f"sha256:{hexadecimal}", size


def link(directory: Path, digest: str) -> None:
    """The registry's way to say that something belongs to a repository."""
    path = directory / digest.replace(":", "/") / "link"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)


def descriptor(media_type: str, stored: tuple[str, int]) -> dict[str, Any]:
    digest, size = stored
    return {"mediaType": media_type, "digest": digest, "size": size}


def as_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def write_layer(files: Mapping[str, Copied | Written], target: Path) -> Path:
    """Write files and the directories above them as a tar that is equal for equal content: sorted, without times."""
    target.unlink(missing_ok=True)  # an earlier layer of this name lives on under its digest
    directories = {str(parent) for path in files for parent in PurePosixPath(path).parents} - {"/"}
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(directories | set(files)):
            entry = tarfile.TarInfo(path.removeprefix("/"))
            if path in directories:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            else:
                content = files[path].read()
                entry.size, entry.mode = len(content), files[path].mode
                tar.addfile(entry, io.BytesIO(content))
    return target
