"""Vault: istiod's service account reads the HSM client's secret, and nobody else does, nor it more (H2; source: Anthos
Service Mesh on-premises with HSM and Vault)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509
from lightkube.models.core_v1 import (
    ConfigMapProjection,
    KeyToPath,
    ProjectedVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from lightkube.resources.core_v1 import Pod

from settings import Settings
from settings.authority import VaultSettings
from settings.mesh import IstiodMesh
from verify import curl
from verify.certificates import fingerprint
from verify.context import Context, user_agent
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.kube import Subject
from verify.probe import Outcome, Probe
from verify.site import stranger
from verify.vault_client import SECRET_KEYS, AuditLog, Login, Reply, put
from verify.workload import Workload

SCENARIO = "authority"
ROW = "H2"

CA_CONFIG_MAP, CA_KEY = "vault-tls-cert", "cert"
REVIEWER = "vault-reviewer"

MOUNT_PATH = "/var/run/secrets/vault"
TOKEN, OTHER_TOKEN, CA = (f"{MOUNT_PATH}/{name}" for name in ("token", "other-audience", "ca.pem"))
UNKNOWN_ROLE = "meshgate-verify"
TOKEN_SECONDS = 600
"""The least that Kubernetes gives."""

WRONG_ACCOUNT = "service account name not authorized"
WRONG_NAMESPACE = "namespace not authorized"
WRONG_AUDIENCE = "invalid audience (aud) claim"
DENIED = "permission denied"
UNKNOWN = "invalid role name"
"""Vault's own words."""

NOT_THE_REVIEWERS = (
    *((verb, "secrets") for verb in ("get", "list", "create")),
    *((verb, "pods") for verb in ("list", "create")),
    *(("create", resource) for resource in ("pods/exec", "serviceaccounts/token", "deployments.apps")),
    *(("create", f"{plural}.rbac.authorization.k8s.io") for plural in ("rolebindings", "clusterrolebindings")),
    *(("impersonate", resource) for resource in ("users", "groups", "serviceaccounts")),
    *((verb, "namespaces") for verb in ("list", "delete")),
)
"""What would make the reviewer's token worth stealing: (verb, resource)."""


@dataclass(frozen=True)
class Caller:
    """A pod that logs in at Vault."""

    workload: Workload
    trusts_config_map: bool = True
    """Whether the ConfigMap with Vault's CA is mounted; it is in the control plane's namespace alone."""


@dataclass(frozen=True)
class Callers:
    """The pods of the probes."""

    istiod: Caller
    """With the service account that the role is for."""

    stranger: Caller
    """With another one of the same namespace."""

    namesake: Caller
    """With one of the same name in another namespace."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of the authority's Vault; none where it has none."""
    vault = settings.vault
    if vault is None or settings.authority is None:
        return
    account, namespace = _account(settings, vault), settings.authority.namespace
    callers = _callers(vault, namespace, account)
    who = f"{namespace}/{account}"
    success = Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"a pod of {who} logs in at auth/{vault.auth_path} (policies {vault.policy} and default) and reads "
        f"{vault.secret_path}: {', '.join(SECRET_KEYS)} are there",
        attempt=partial(_reads, vault, callers.istiod, who),
        workloads=(callers.istiod.workload,),
    )
    yield success

    def denied(expected: str, attempt: Callable[[Context], Outcome], caller: Caller) -> Probe:
        return Probe(
            row=ROW,
            scenario=SCENARIO,
            expected=expected,
            attempt=attempt,
            workloads=(caller.workload,),
            pair=success,
        )

    for what, caller, token, words in (
        (f"another service account of {namespace}", callers.stranger, TOKEN, WRONG_ACCOUNT),
        (f"a service account {account} of another namespace", callers.namesake, TOKEN, WRONG_NAMESPACE),
        (f"{who} with a token for another audience", callers.istiod, OTHER_TOKEN, WRONG_AUDIENCE),
    ):
        yield denied(f"login of {what}: 403 '{words}'", partial(_login_refused, vault, caller, token, words), caller)
    yield denied(
        f"login of {who} with another cluster's role: 403",
        partial(_other_role_refused, vault, callers.istiod),
        callers.istiod,
    )
    yield denied(
        f"the secret of another cluster, read with the token of {who}: 403 '{DENIED}'",
        partial(_other_secret_refused, vault, callers.istiod),
        callers.istiod,
    )
    for what, method, path in (
        (f"{vault.secret_path} written", "POST", vault.api_path),
        ("sys/mounts read", "GET", "sys/mounts"),
    ):
        yield denied(
            f"{what} with the token of {who}: 403 '{DENIED}'",
            partial(_refused, vault, callers.istiod, method, path),
            callers.istiod,
        )
    yield denied(
        f"Vault asked by a pod that trusts another CA than that of ConfigMap {CA_CONFIG_MAP}: exit 60",
        partial(_not_trusted, vault, callers.istiod),
        callers.istiod,
    )
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"ConfigMap {namespace}/{CA_CONFIG_MAP} holds, under {CA_KEY}, the CA of the settings",
        attempt=partial(_config_map, vault, namespace),
    )
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"{vault.reviewer_namespace}/{REVIEWER} may have tokens and access reviewed, and nothing else",
        attempt=partial(_reviewer, vault, namespace),
    )


def _account(settings: Settings, vault: VaultSettings) -> str:
    """istiod's service account, which exists: while the mesh is in another stack, the first that may log in."""
    if isinstance(settings.mesh, IstiodMesh):
        return f"istiod-{settings.mesh.revision}"
    return vault.service_accounts[0]


def _callers(vault: VaultSettings, namespace: str, account: str) -> Callers:
    inside = partial(_mount, vault.audience, True)
    return Callers(
        istiod=Caller(
            Workload("vault-istiod", in_mesh=False, namespace=namespace, service_account=account, change=inside)
        ),
        stranger=Caller(Workload("vault-stranger", in_mesh=False, namespace=namespace, change=inside)),
        namesake=Caller(
            Workload(account, in_mesh=False, change=partial(_mount, vault.audience, False)), trusts_config_map=False
        ),
    )


def _mount(audience: str, with_ca: bool, pod: Pod) -> None:
    """Give a pod tokens for Vault and for somebody else, and Vault's CA."""
    assert pod.spec is not None
    sources = [_token(TOKEN, audience), _token(OTHER_TOKEN, f"not-{audience}")]
    if with_ca:
        item = KeyToPath(key=CA_KEY, path=Path(CA).name)
        sources.append(VolumeProjection(configMap=ConfigMapProjection(name=CA_CONFIG_MAP, items=[item])))
    volume = Volume(name="vault", projected=ProjectedVolumeSource(sources=sources))
    pod.spec.volumes = [*(pod.spec.volumes or []), volume]
    container = pod.spec.containers[0]
    mount = VolumeMount(name=volume.name, mountPath=MOUNT_PATH, readOnly=True)
    container.volumeMounts = [*(container.volumeMounts or []), mount]


def _token(path: str, audience: str) -> VolumeProjection:
    return VolumeProjection(
        serviceAccountToken=ServiceAccountTokenProjection(
            path=Path(path).name, audience=audience, expirationSeconds=TOKEN_SECONDS
        )
    )


def _login(context: Context, vault: VaultSettings, caller: Caller, token: str = TOKEN) -> Login:
    pod = context.pods.get(caller.workload)
    ca = CA if caller.trusts_config_map else put(pod, _ca(vault))
    return Login(vault, pod, token, ca, vault.mount, vault.role)


def _reads(vault: VaultSettings, caller: Caller, who: str, context: Context) -> Outcome:
    log, (login_agent, agent) = _log(context), _agents()
    login, *answers = _login(context, vault, caller).ask(login_agent, ("GET", vault.api_path, agent))
    if login.status != 200:
        return Outcome(ok=False, observed=f"login: {login}", evidence=log.line(login_agent))
    given = json.loads(login.said)
    policies = sorted(given["policies"])
    observed = f"login {login} as {given['account']} with {', '.join(policies)} for {given['seconds']} s"
    secret = answers[0]
    missing = [key for key in SECRET_KEYS if key not in secret.said.split()] if secret.status == 200 else []
    return judged(
        f"{observed}; secret {secret}{f' with {secret.said}' if secret.status == 200 else ''}",
        [
            *differs("the account", given["account"], who),
            *differs("its policies", policies, sorted([vault.policy, "default"])),
            *differs("seconds that the login lasts", given["seconds"], vault.token_ttl_hours * 3600),
            *differs("the secret's status", secret.status, 200),
            *([f"{', '.join(missing)} empty or missing: `python -m authority provision` writes them"] * bool(missing)),
            *_unlogged(log, login_agent, agent),
        ],
        "; ".join(filter(None, (log.line(login_agent), log.line(agent)))) or f"Vault's answers: {login}, {secret}",
    )


def _login_refused(vault: VaultSettings, caller: Caller, token: str, words: str, context: Context) -> Outcome:
    agent = _agents()[0]
    reply = _login(context, vault, caller, token).ask(agent)[0]
    return _as_denied(_log(context), agent, reply, words)


def _other_role_refused(vault: VaultSettings, caller: Caller, context: Context) -> Outcome:
    other = context.settings.verify.vault.other_mount
    if other is None:
        return NO_OTHER
    unknown_agent, agent = _agents()
    login = replace(_login(context, vault, caller), mount=other)
    # Where there is no such auth method Vault says no more than where there is one.
    unknown = replace(login, role=UNKNOWN_ROLE).ask(unknown_agent)[0]
    if UNKNOWN not in unknown.said:
        return Outcome(ok=False, observed=f"auth/{other}/hsm is no kubernetes auth method: {unknown}")
    return _as_denied(_log(context), agent, login.ask(agent)[0], "")


def _other_secret_refused(vault: VaultSettings, caller: Caller, context: Context) -> Outcome:
    other = context.settings.verify.vault.other_mount
    if other is None:
        return NO_OTHER
    return _refused(vault, caller, "GET", vault.model_copy(update={"mount": other}).api_path, context)


def _refused(vault: VaultSettings, caller: Caller, method: str, path: str, context: Context) -> Outcome:
    """A request with a login's token."""
    login_agent, agent = _agents()
    login, *answers = _login(context, vault, caller).ask(login_agent, (method, path, agent))
    if not answers:
        return Outcome(ok=False, observed=f"login: {login}")
    return _as_denied(_log(context), agent, answers[0], DENIED)


def _as_denied(log: AuditLog, agent: str, reply: Reply, words: str) -> Outcome:
    line = log.line(agent)
    faults = [
        *(["no answer"] if reply.exit_code else differs("status", reply.status, 403)),
        *([] if words in reply.said else [f"Vault does not say '{words}'"]),
        *_unlogged(log, agent),
    ]
    return judged(str(reply), faults, line or f"Vault's answer: {reply}")


def _not_trusted(vault: VaultSettings, caller: Caller, context: Context) -> Outcome:
    pod = context.pods.get(caller.workload)
    login = replace(_login(context, vault, caller), ca=put(pod, stranger()))
    reply = login.ask(_agents()[0])[0]
    ok = reply.exit_code == curl.NOT_TRUSTED
    return Outcome(ok=ok, observed=str(reply), evidence=f"curl in the pod: {reply.said}" if ok else "", proven=ok)


def _config_map(vault: VaultSettings, namespace: str, context: Context) -> Outcome:
    pem = context.kube.config_map(namespace, CA_CONFIG_MAP).get(CA_KEY, "")
    found, right = _certificates(pem), _certificates(_ca(vault))
    observed = ", ".join(found) or "no certificate"
    return judged(observed, differs("its content", found, right), f"ConfigMap {namespace}/{CA_CONFIG_MAP}: {observed}")


def _reviewer(vault: VaultSettings, namespace: str, context: Context) -> Outcome:
    home = vault.reviewer_namespace
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{home}", "system:authenticated")
    subject = Subject(f"system:serviceaccount:{home}:{REVIEWER}", groups)
    faults = []
    if not context.kube.may(subject, "create", "tokenreviews.authentication.k8s.io", ""):
        faults.append("it may not have tokens reviewed: Vault can check none")
    asked = [(verb, resource, where) for verb, resource in NOT_THE_REVIEWERS for where in ("", home, namespace)]
    faults += [
        f"it may {verb} {resource} in {where or 'the cluster'}"
        for verb, resource, where in asked
        if context.kube.may(subject, verb, resource, where)
    ]
    observed = f"token reviews: yes; {len(asked)} questions about more: no" if not faults else "not so"
    return judged(observed, faults[:5], "API server: SubjectAccessReview of each")


def _agents() -> tuple[str, str]:
    return user_agent(ROW), user_agent(ROW)


def _log(context: Context) -> AuditLog:
    return AuditLog(context.settings.verify.vault.audit_log)


def _unlogged(log: AuditLog, *agents: str) -> list[str]:
    """Requests must be in the log that the settings name."""
    return [] if not log.readable or all(map(log.line, agents)) else ["Vault's audit log has no line of it"]


def _ca(vault: VaultSettings) -> str:
    try:
        return Path(vault.ca).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise VerifyError(f"meshgate:authority.vault.ca: cannot read {vault.ca}: {error.strerror}") from None


def _certificates(pem: str) -> list[str]:
    try:
        return [fingerprint(certificate) for certificate in x509.load_pem_x509_certificates(pem.encode())]
    except ValueError:
        return []


NO_OTHER = Outcome(ok=None, observed="meshgate:verify.vault.otherMount names no other cluster of this Vault")
