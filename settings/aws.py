"""Settings of AWS (`aws`): where everything of the kind `eks` is made."""

from __future__ import annotations

from typing import Annotated

from settings.model import Model, matching


class AwsSettings(Model):
    """The region and the account. Credentials come from the environment, as AWS's tools take them."""

    region: Annotated[
        str,
        matching(r"(?!cn-)[a-z]{2}-[a-z]+-[0-9]", "a region of AWS's commercial partition, for example eu-central-1"),
    ]
    account_id: Annotated[str, matching(r"[0-9]{12}", "an account id: 12 digits, in quotes")] | None = None
    """The account that everything is made in; with credentials of another one nothing is. Left out, any account."""
