"""Which roots the running mesh trusts: its CA changes to another one only by way of trusting both."""

from __future__ import annotations

import pulumi
import yaml
from cryptography import x509

TIMEOUT_SECONDS = 10


def live_roots(namespace: str, kubeconfig: str) -> str:
    """What the mesh trusts now, PEM: as istiod tells it to every namespace; empty where no istiod ever ran.

    `namespace` is the control plane's, `kubeconfig` is YAML with one context. Raises RunError when it cannot be asked.
    """
    # Imported here, so that a stack whose CA is made otherwise does not load a Kubernetes client.
    import httpx2
    from lightkube import Client, KubeConfig
    from lightkube.core.exceptions import ApiError, ConfigError
    from lightkube.resources.core_v1 import ConfigMap

    try:
        config = KubeConfig.from_dict(yaml.safe_load(kubeconfig)).get()
        client = Client(config, timeout=httpx2.Timeout(TIMEOUT_SECONDS))
        found = client.get(ConfigMap, "istio-ca-root-cert", namespace=namespace)
    except ApiError as error:
        if error.status.code == 404:
            return ""
        raise _unknown(namespace, error) from None
    except (httpx2.HTTPError, ConfigError) as error:
        raise _unknown(namespace, error) from None
    return str((found.data or {}).get("root-cert.pem", ""))


def _unknown(namespace: str, error: Exception) -> pulumi.RunError:
    return pulumi.RunError(
        f"the roots that the mesh trusts (ConfigMap {namespace}/istio-ca-root-cert) cannot be read: "
        f"{str(error) or type(error).__name__}"
    )


def refusal(live: str, roots: str, signer: str) -> str | None:
    """Why a running istiod would not take other roots (PEM) and `signer`'s, the first of them; None if it would.

    Reference: Istio takes a root-cert.pem that has more, or fewer, roots than the one it runs with, not others.
    """
    if not live:
        return None
    trusted, wanted = _certificates(live), _certificates(roots)
    if wanted[0] not in trusted:
        return (
            f"the mesh does not trust the root of '{signer}' yet, {wanted[0].subject.rfc4514_string()}: first run "
            f"`pulumi up` with '{signer}' listed after the active generation, and go on when every proxy trusts both"
        )
    if not (set(wanted) <= set(trusted) or set(wanted) >= set(trusted)):
        return "add a root and take another out, which istiod refuses: run `pulumi up` for the one, then for the other"
    return None


def _certificates(text: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(text.encode())
