"""Layer `authority`: the CA that signs the workloads' certificates.

A kind's component is imported when it is used: it loads an SDK that the other kinds do not need.
"""

from __future__ import annotations

import pulumi

from settings import Problem, Settings
from settings.authority import AuthoritySettings, HsmAuthority, HsmKmsAuthority, SelfSignedAuthority, VaultSettings
from stacks.contracts import SIGNED, WAITING, Authority, Generation
from stacks.upstream import Upstream


def check(settings: AuthoritySettings) -> list[Problem]:
    """Whether Vault is there, where it is needed."""
    if isinstance(settings, SelfSignedAuthority) or settings.vault is None:
        return []
    from components.authority.preflight import preflight

    return [problem.below("vault") for problem in preflight(settings.vault)]


def build(settings: Settings, upstream: Upstream) -> Authority:
    """Make the CA and plug it into the namespace where istiod will look for it."""
    authority = settings.authority
    assert authority is not None
    if isinstance(authority, SelfSignedAuthority):
        return _self_signed(settings, authority, upstream)
    for warning in authority.warnings():
        pulumi.log.warn(f"meshgate:authority.{warning.key}: {warning.message}")
    if isinstance(authority, HsmKmsAuthority):
        return _hsm_kms(settings, authority, upstream)
    return _hsm(settings, authority, upstream)


def _self_signed(settings: Settings, authority: SelfSignedAuthority, upstream: Upstream) -> Authority:
    from components.authority import self_signed as component

    ca = component.SelfSignedMeshCa(
        f"{settings.name}-authority",
        component.SelfSignedMeshCaArgs(
            namespace=authority.namespace,
            environment=settings.name,
            authority=authority,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return Authority(
        namespace=ca.namespace,
        root_certificate=ca.root_certificate,
        status=pulumi.Output.from_input(SIGNED),
        generations=pulumi.Output.from_input({}),
    )


def _hsm(settings: Settings, authority: HsmAuthority, upstream: Upstream) -> Authority:
    from components.authority import hsm as component

    ca = component.HsmMeshCa(
        f"{settings.name}-authority",
        component.HsmMeshCaArgs(
            environment=settings.name,
            authority=authority,
            kubeconfig=upstream.cluster.kubeconfig,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    if authority.vault is not None:
        # The mesh does not wait for it: it goes on without Vault, and without the HSM.
        _credential(settings, authority.vault, ca.namespace, upstream)
    return Authority(
        namespace=ca.namespace,
        root_certificate=ca.root_certificate,
        status=pulumi.Output.from_input(WAITING if authority.waiting else SIGNED),
        generations=ca.requests.apply(
            lambda requests: {
                name: Generation(status=status, request=requests[name]) for name, status in authority.statuses.items()
            }
        ),
    )


def _hsm_kms(settings: Settings, authority: HsmKmsAuthority, upstream: Upstream) -> Authority:
    from components.authority import hsm_kms as component

    ca = component.HsmKmsMeshCa(
        f"{settings.name}-authority",
        component.HsmKmsMeshCaArgs(authority=authority, protect=settings.protect),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes]),
    )
    return Authority(
        # istiod logs in at Vault when it starts.
        namespace=_credential(settings, authority.vault, ca.namespace, upstream),
        root_certificate=ca.root_certificate,
        status=pulumi.Output.from_input(WAITING if authority.waiting else SIGNED),
        generations=pulumi.Output.from_input({}),
    )


def _credential(
    settings: Settings, vault: VaultSettings, namespace: pulumi.Output[str], upstream: Upstream
) -> pulumi.Output[str]:
    """Make the place of the HSM client's credentials; gives the namespace, known when istiod can get them."""
    from components.authority import vault as component

    return component.HsmCredential(
        f"{settings.name}-authority-vault",
        component.HsmCredentialArgs(
            vault=vault,
            namespace=namespace,
            kubeconfig=upstream.cluster.kubeconfig,
            protect=settings.protect,
        ),
        opts=pulumi.ResourceOptions(providers=[upstream.kubernetes, upstream.vault]),
    ).namespace
