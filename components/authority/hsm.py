"""The mesh CA whose root is in an HSM: generations of an intermediate, signed outside the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_tls as tls

from components.authority.trust import live_roots, refusal
from settings.authority import HsmAuthority
from settings.chain import Chain, read, requested_key


@dataclass(kw_only=True)
class HsmMeshCaArgs:
    """Arguments of HsmMeshCa."""

    environment: str
    """Name of the environment, for the requests' subjects."""

    authority: HsmAuthority
    """Checked: its chains are chains of CAs."""

    kubeconfig: pulumi.Input[str]
    """A self-contained kubeconfig with one context, in YAML: a mesh that runs is asked for the roots it trusts."""

    protect: bool
    """Whether keys and `cacerts` are protected from deletion."""


class HsmMeshCa(pulumi.ComponentResource):
    """The control plane's namespace, and a key (ECDSA P256) and request for each generation of the CA.

    The requests leave as outputs and in the Secret `istio-ca-cert-csr`. As soon as a generation has its chain there is
    the Secret `cacerts`, which plugs the active one into istiod; it trusts the roots of all that have one. A chain of
    another key than its generation's, or a root that the running mesh does not trust yet, stops `pulumi up` (RunError)
    before `cacerts` is touched.

    What is protected: the namespace, `cacerts` (taking every chain out would delete it) and each generation until it
    is retired. A retired one, whose key signs no more, is taken out of the list as it is; one that still waits or is
    ready, and shall go, first needs `pulumi state unprotect` for its key and request.

    Source: Anthos Service Mesh on premises with an HSM and Vault. Reference: Istio, "Plug in CA Certificates".
    """

    namespace: pulumi.Output[str]
    """Known when istiod would find its CA there; while the CA waits, when the namespace is there."""

    root_certificate: pulumi.Output[str]
    """PEM: the active generation's root first, then those of others that have another; empty while the CA waits."""

    requests: pulumi.Output[dict[str, str]]
    """Of each generation, PEM."""

    def __init__(self, name: str, args: HsmMeshCaArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("meshgate:authority:HsmMeshCa", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        protected = pulumi.ResourceOptions(parent=self, protect=args.protect)
        authority = args.authority

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name=authority.namespace),
            opts=protected,
        )
        keys: dict[str, tls.PrivateKey] = {}
        requests: dict[str, pulumi.Output[str]] = {}
        for generation, status in authority.statuses.items():
            needed = child if status == "retired" else protected
            keys[generation] = tls.PrivateKey(
                f"{name}-{generation}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=needed
            )
            requests[generation] = tls.CertRequest(
                f"{name}-{generation}-request",
                private_key_pem=keys[generation].private_key_pem,
                subject=tls.CertRequestSubjectArgs(
                    common_name=f"{authority.common_name or f'{args.environment} mesh'} {generation}",
                    organization=authority.organization,
                ),
                opts=needed,
            ).cert_request_pem
        kubernetes.core.v1.Secret(
            f"{name}-requests",
            metadata=kubernetes.meta.v1.ObjectMetaArgs(name="istio-ca-cert-csr", namespace=namespace.metadata.name),
            string_data={f"{generation}.pem": request for generation, request in requests.items()},
            opts=child,
        )

        self.requests = pulumi.Output.all(**requests).apply(dict)
        if authority.waiting:
            self.namespace = namespace.metadata.name
            self.root_certificate = pulumi.Output.from_input("")
        else:
            # Of the cluster's answer nothing is secret.
            live = pulumi.Output.unsecret(
                pulumi.Output.from_input(args.kubeconfig).apply(partial(live_roots, authority.namespace))
            )
            files = pulumi.Output.all(self.requests, live).apply(lambda both: plugged_in(authority, *both))
            key: pulumi.Output[str] = pulumi.Output.secret(keys[authority.signer.name].private_key_pem)
            cacerts = kubernetes.core.v1.Secret(
                f"{name}-cacerts",
                metadata=kubernetes.meta.v1.ObjectMetaArgs(name="cacerts", namespace=namespace.metadata.name),
                string_data={
                    "ca-cert.pem": files["ca-cert.pem"],
                    "ca-key.pem": key,
                    "cert-chain.pem": files["cert-chain.pem"],
                    "root-cert.pem": files["root-cert.pem"],
                },
                opts=protected,
            )
            # Read from the Secret, so that what uses the contract waits until istiod would find it.
            self.namespace = cacerts.metadata.namespace
            self.root_certificate = files["root-cert.pem"]
        self.register_outputs(
            {"namespace": self.namespace, "rootCertificate": self.root_certificate, "requests": self.requests}
        )


def plugged_in(authority: HsmAuthority, requests: Mapping[str, str], live: str) -> dict[str, str]:
    """What istiod finds in `cacerts` besides the key, by file.

    `requests` has each generation's request, `live` the roots that the mesh trusts now (PEM). Raises RunError where a
    chain is not that of its generation's key, or where the mesh would not follow.
    """
    chains = {generation.name: read(generation.chain) for generation in authority.generations if generation.chain}
    for index, generation in enumerate(authority.generations):
        if generation.name in chains and (reason := _foreign(generation.name, chains[generation.name], requests)):
            raise pulumi.RunError(f"meshgate:authority.generations[{index}].chain: {reason}")
    active = chains[authority.signer.name]
    # A root that several generations have is there once.
    roots = "".join(dict.fromkeys([active.root, *(chain.root for chain in chains.values())]))
    if reason := refusal(live, roots, authority.signer.name):
        raise pulumi.RunError(f"meshgate:authority.generations: {reason}")
    return {"ca-cert.pem": active.certificate, "cert-chain.pem": active.text, "root-cert.pem": roots}


def _foreign(generation: str, chain: Chain, requests: Mapping[str, str]) -> str | None:
    """Why a chain is not the generation's; None when it is."""
    owners = [name for name, request in requests.items() if requested_key(request) == chain.public_key]
    if generation in owners:
        return None
    if owners:
        return f"is that of the generation '{owners[0]}', not of '{generation}'; put each where it belongs"
    return (
        f"is for another key than that of '{generation}': sign the request that `pulumi stack output "
        f"authority_generations` has for '{generation}'"
    )
