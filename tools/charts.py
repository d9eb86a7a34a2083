"""Istio's Helm charts, out of the same module that its programs are built from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.cache import copy_tree
from tools.errors import ToolsError
from tools.families import ISTIO, ISTIO_MODULE, ISTIO_VERSION
from tools.part import Part
from tools.workshop import Workshop

CHARTS = {"base": "base", "istiod": "istio-control/istio-discovery", "gateway": "gateway"}


@dataclass(frozen=True)
class Charts(Part):
    @property
    def shelf(self) -> str:
        return "charts"

    def inputs(self) -> Iterable[bytes]:
        yield repr((CHARTS, ISTIO_VERSION)).encode()
        yield (ISTIO.source / "go.mod").read_bytes()
        yield (ISTIO.source / "go.sum").read_bytes()

    def make(self, result: Path, workshop: Workshop) -> None:
        source = workshop.scratch / "source"
        copy_tree(ISTIO.source, source)
        charts = workshop.module_dir(ISTIO_MODULE, source) / "manifests" / "charts"
        for name, path in CHARTS.items():
            copy_tree(charts / path, result / name)
            stamp_version(result / name / "Chart.yaml", ISTIO_VERSION)


def stamp_version(chart: Path, version: str) -> None:
    """Set version and appVersion of a Chart.yaml, as Istio's release does.

    In the source tree both are the placeholder 1.0.0 ("never actually shipped"); `helm --version`, `helm list` and
    the program's own checks need the real one.
    """
    placeholder = re.compile(r"^(version|appVersion): 1\.0\.0$", re.MULTILINE)
    text, changed = placeholder.subn(rf"\1: {version}", chart.read_text())
    if changed != 2:
        raise ToolsError(f"{chart} has no placeholder 1.0.0 for version and appVersion: see how this Istio fills them")
    chart.write_text(text)


CHARTS_PART = Charts("charts")
