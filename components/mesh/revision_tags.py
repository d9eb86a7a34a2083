"""Revision tags: names that namespaces follow, and that move from one control plane to the next."""

from __future__ import annotations

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, LabelSelectorRequirementArgs

REVISION_LABEL = "istio.io/rev"
TAG_LABEL = "istio.io/tag"
INJECTION_LABEL = "istio-injection"
INJECT_LABEL = "sidecar.istio.io/inject"


def revision_tag(
    resource_name: str,
    tag: str,
    *,
    revision: str,
    namespace: pulumi.Input[str],
    opts: pulumi.ResourceOptions,
) -> kubernetes.admissionregistration.v1.MutatingWebhookConfiguration:
    """The webhooks that have the istiod of `revision` inject what is labelled with `tag`.

    A resource of its own, and not the istiod chart's `revisionTags`: a Helm release cannot take over what another one
    owns, so a tag would be gone between two of them. This one changes in a single request, and the CA bundle, which
    istiod writes itself, stays. What it holds is what `istioctl tag set` makes.
    Reference: Istio, "Canary Upgrades", "Stable revision labels".
    """
    return kubernetes.admissionregistration.v1.MutatingWebhookConfiguration(
        resource_name,
        metadata=kubernetes.meta.v1.ObjectMetaArgs(
            name=pulumi.Output.from_input(namespace).apply(lambda namespace: _name(tag, namespace)),
            # By these istiod knows its own, and fills in the CA bundle.
            labels={"app": "sidecar-injector", TAG_LABEL: tag, REVISION_LABEL: revision},
        ),
        webhooks=[
            _webhook(prefix, revision, namespace, of_namespaces, of_pods)
            for prefix, of_namespaces, of_pods in _selectors(tag)
        ],
        opts=opts,
    )


def _name(tag: str, namespace: str) -> str:
    """As Istio finds it: with the control plane's namespace when that is not the usual one."""
    return f"istio-revision-tag-{tag}" + ("" if namespace == "istio-system" else f"-{namespace}")


def _webhook(
    prefix: str,
    revision: str,
    namespace: pulumi.Input[str],
    of_namespaces: list[LabelSelectorRequirementArgs],
    of_pods: list[LabelSelectorRequirementArgs],
) -> kubernetes.admissionregistration.v1.MutatingWebhookArgs:
    v1 = kubernetes.admissionregistration.v1
    return v1.MutatingWebhookArgs(
        name=f"{prefix}.sidecar-injector.istio.io",
        client_config=v1.WebhookClientConfigArgs(
            service=v1.ServiceReferenceArgs(name=f"istiod-{revision}", namespace=namespace, path="/inject", port=443)
        ),
        rules=[
            v1.RuleWithOperationsArgs(
                operations=["CREATE"], api_groups=[""], api_versions=["v1"], resources=["pods"], scope="*"
            )
        ],
        namespace_selector=LabelSelectorArgs(match_expressions=of_namespaces),
        object_selector=LabelSelectorArgs(match_expressions=of_pods),
        failure_policy="Fail",
        side_effects="None",
        reinvocation_policy="Never",
        match_policy="Equivalent",
        timeout_seconds=10,
        admission_review_versions=["v1"],
    )


def _selectors(tag: str) -> list[tuple[str, list[LabelSelectorRequirementArgs], list[LabelSelectorRequirementArgs]]]:
    """Of each webhook: its name's prefix, the namespaces' labels, the pods' labels."""
    unlabelled = [_absent(REVISION_LABEL), _absent(INJECTION_LABEL)]
    wanted = LabelSelectorRequirementArgs(key=INJECT_LABEL, operator="NotIn", values=["false"])
    selectors = [
        ("rev.namespace", [_is(REVISION_LABEL, tag), _absent(INJECTION_LABEL)], [wanted]),
        ("rev.object", unlabelled, [wanted, _is(REVISION_LABEL, tag)]),
    ]
    if tag == "default":
        # The one tag that labels without a revision's name follow, too.
        selectors += [
            ("namespace", [_is(INJECTION_LABEL, "enabled")], [wanted]),
            ("object", unlabelled, [_is(INJECT_LABEL, "true"), _absent(REVISION_LABEL)]),
        ]
    return selectors


def _is(label: str, value: str) -> LabelSelectorRequirementArgs:
    return LabelSelectorRequirementArgs(key=label, operator="In", values=[value])


def _absent(label: str) -> LabelSelectorRequirementArgs:
    return LabelSelectorRequirementArgs(key=label, operator="DoesNotExist")
