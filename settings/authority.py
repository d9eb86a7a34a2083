"""Settings of the layer `authority`: who signs the workloads' certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from settings.model import Hours, Model, Namespace, Problem


class CaLifetimes(Model):
    """How long the certificates of a private CA live."""

    root_validity_hours: Hours = 87600
    intermediate_validity_hours: Hours = 17520
    early_renewal_hours: Hours = 2160
    """How long before its end a certificate is made anew by the next `pulumi up`."""

    def problems(self) -> Iterator[Problem]:
        if self.intermediate_validity_hours > self.root_validity_hours:
            yield Problem(
                key="intermediateValidityHours",
                message=f"is {self.intermediate_validity_hours}; the root lives only {self.root_validity_hours} hours",
            )
        if self.early_renewal_hours >= self.intermediate_validity_hours:
            yield Problem(
                key="earlyRenewalHours",
                message=f"is {self.early_renewal_hours}, not less than intermediateValidityHours "
                f"({self.intermediate_validity_hours}): the certificate would be renewed at every `pulumi up`",
            )


class SelfSignedAuthority(CaLifetimes):
    """A root and an intermediate made by the program itself; their keys are encrypted in the state."""

    kind: Literal["self-signed"]
    namespace: Namespace = "istio-system"
    """The control plane's namespace; the CA is there before istiod."""

    organization: str = "meshgate"


AuthoritySettings = SelfSignedAuthority
