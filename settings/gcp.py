"""Settings of Google Cloud (`gcp`): where everything of the kind `gke` is made."""

from __future__ import annotations

from typing import Annotated

from settings.model import Model, matching


class GcpSettings(Model):
    """The project and the place. Credentials come from the environment, as Google's tools take them."""

    project: Annotated[
        str, matching(r"[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project id: 6 to 30 lower-case letters, digits and '-'")
    ]
    region: Annotated[str, matching(r"[a-z]+-[a-z]+[0-9]+", "a region, for example europe-west1")]
