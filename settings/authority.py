"""Settings of the layer `authority`: who signs the workloads' certificates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from settings.model import DnsLabel, Hours, Model, Namespace, Problem, matching


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

    @property
    def waiting(self) -> bool:
        """Never: it signs its chain itself."""
        return False


Url = Annotated[
    str,
    matching(r"https://[^\s/@?#]+", "https:// with a host and, where it is not 443, a port, and no path"),
]
"""Where a server is reached; TLS is verified, so there is no http://."""


class VaultSettings(Model):
    """The HSM client's secret in HashiCorp Vault, and who may read it.

    The secret is <mount>/hsm; its values (clientcert, clientkey, servercert, PIN) are an operator's to write
    (`python -m authority provision`). istiod's service accounts log in at auth/<mount>/hsm with the role `istiod`.
    """

    address: Url
    """For example https://vault.example.com:8200."""

    ca: str
    """Path of the PEM file with the CA of Vault's certificate."""

    mount: Annotated[str, matching(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?", "lower-case letters, digits, '-' and '_'")]
    """Path of the kv secrets engine, one for each cluster, for example asm-c1."""

    kv_version: Literal[1, 2] = 2
    """2 keeps versions of the secret."""

    max_lease_hours: Hours = 768
    """Of the secrets engine."""

    service_accounts: Annotated[tuple[DnsLabel, ...], Field(min_length=1)]
    """istiod's, in the control plane's namespace: istiod-<revision> for each revision."""

    audience: Annotated[str, Field(min_length=1)] = "vault"
    """A token must be made for it; the API server's own audience would let every pod's token pass for one of these."""

    token_ttl_hours: Annotated[int, Field(ge=1, le=768)] = 1
    """How long a login at Vault lasts; 768 is as long as Vault itself allows."""

    reviewer_namespace: Namespace = "vault"
    """Made here, for the service account by which Vault asks the API server about tokens."""

    kubernetes_host: Url | None = None
    """The API server as Vault reaches it; the kubeconfig's when left out."""

    @property
    def secret_path(self) -> str:
        """The secret as the commands `vault kv` and `python -m authority provision` name it."""
        return f"{self.mount}/hsm"

    @property
    def api_path(self) -> str:
        """The secret as Vault's API and its policies name it: kv v2 has `data` in between."""
        return f"{self.mount}/data/hsm" if self.kv_version == 2 else self.secret_path

    @property
    def auth_path(self) -> str:
        """Path of the auth method; a login is at auth/<path>/login."""
        return f"{self.mount}/hsm"

    @property
    def role(self) -> str:
        """The auth method's role for istiod."""
        return "istiod"

    @property
    def policy(self) -> str:
        """The policy that reads the secret, and nothing else."""
        return f"{self.mount}-hsm-policy"

    def problems(self) -> Iterator[Problem]:
        for index, account in enumerate(self.service_accounts):
            if account in self.service_accounts[:index]:
                yield Problem(key=f"serviceAccounts[{index}]", message=f"'{account}' is there twice; name each once")


RENEW = "add a generation after it, have its request signed and make that one active"
"""What to do about a CA that ends."""

GenerationStatus = Literal["waiting", "ready", "active", "retired"]
"""waiting: no chain yet. ready: trusted, does not sign yet. active: signs. retired: trusted, signs no more."""


class Generation(Model):
    """One intermediate CA of the mesh, with a key of its own."""

    name: DnsLabel
    """For example "2026"; in quotes, to be text."""

    chain: str | None = None
    """PEM: the signed intermediate, then whatever signed it, up to and with the root; left out until it is signed."""


class HsmAuthority(Model):
    """A mesh CA that a root in an HSM signs, outside the cluster (source: Anthos Service Mesh with HSM and Vault).

    A generation's key and request are made here; `python -m authority sign` makes a chain of the request.
    """

    kind: Literal["hsm"]
    namespace: Namespace = "istio-system"
    """The control plane's namespace; the CA is there before istiod."""

    organization: str = "meshgate"
    common_name: str | None = None
    """What the generations' subjects begin with; the environment's name and `mesh` when left out."""

    generations: Annotated[tuple[Generation, ...], Field(min_length=1)]
    """Oldest first."""

    active: str | None = None
    """The generation that signs; the first when left out."""

    vault: VaultSettings | None = None

    @property
    def waiting(self) -> bool:
        """Whether no generation has its chain: there is no CA yet, and so no mesh."""
        return all(generation.chain is None for generation in self.generations)

    @property
    def signer(self) -> Generation:
        """The generation that signs, or will."""
        name = self.active or self.generations[0].name
        return next(generation for generation in self.generations if generation.name == name)

    @property
    def statuses(self) -> dict[str, GenerationStatus]:
        """What each generation is for, by its name."""
        signer = self.generations.index(self.signer)
        return {
            generation.name: _status(generation, index - signer) for index, generation in enumerate(self.generations)
        }

    def problems(self) -> Iterator[Problem]:
        names = [generation.name for generation in self.generations]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Problem(
                    key=f"generations[{index}].name", message=f"'{name}' names two generations; names must differ"
                )
        if self.active is not None and self.active not in names:
            yield Problem(key="active", message=f"'{self.active}' is no generation (there are: {', '.join(names)})")
        else:
            yield from self._signer()
            yield from self._chains()
        if self.vault is not None:
            yield from (problem.below("vault") for problem in self.vault.problems())

    def _signer(self) -> Iterator[Problem]:
        signed = [generation.name for generation in self.generations if generation.chain is not None]
        if signed and self.signer.chain is None:
            yield Problem(
                key="active",
                message=f"is '{self.signer.name}'{'' if self.active else ' (the first)'}, which has no chain yet; "
                f"one that has can sign: {', '.join(signed)}",
            )

    def _chains(self) -> Iterator[Problem]:
        # Imported here: whatever only reads settings needs no cryptography.
        from settings.chain import ChainError, read

        owners: dict[bytes, str] = {}
        statuses = self.statuses
        for index, generation in enumerate(self.generations):
            if generation.chain is None:
                continue
            key = f"generations[{index}].chain"
            try:
                chain = read(generation.chain)
            except ChainError as error:
                yield Problem(key=key, message=str(error))
                continue
            for fault in (*chain.faults(), chain.early()):
                if fault:
                    yield Problem(key=key, message=fault)
            if (expired := chain.expired()) and not self._replaced(index, statuses):
                yield Problem(key=key, message=f"{expired}; {RENEW}")
            owner = owners.setdefault(chain.public_key, generation.name)
            if owner != generation.name:
                yield Problem(
                    key=key, message=f"is for the same key as that of '{owner}'; each generation has a key of its own"
                )

    def _replaced(self, index: int, statuses: Mapping[str, GenerationStatus]) -> bool:
        """Whether a generation's end must not stop what follows it: it signs no more, or the next is being signed."""
        names = list(statuses)
        return statuses[names[index]] == "retired" or "waiting" in [statuses[name] for name in names[index + 1 :]]

    def warnings(self) -> Iterator[Problem]:
        """What is right, but not for long."""
        from settings.chain import read

        for index, generation in enumerate(self.generations):
            if generation.chain is None:
                continue
            status, chain = self.statuses[generation.name], read(generation.chain)
            key = f"generations[{index}]"
            if status == "retired" and (expired := chain.expired()):
                yield Problem(key=key, message=f"{expired}; it signs no more: take the generation out")
            elif status != "retired" and (ending := chain.expired() or chain.ends_soon()):
                yield Problem(key=key, message=f"{ending}; {RENEW}")


def _status(generation: Generation, after_signer: int) -> GenerationStatus:
    if generation.chain is None:
        return "waiting"
    if after_signer == 0:
        return "active"
    return "ready" if after_signer > 0 else "retired"


class HsmKmsAuthority(Model):
    """The document's patched istiod, for those who have its images: it makes its key and request itself.

    A plugin beside istiod encrypts the key by a key-encryption key in the HSM.
    """

    kind: Literal["hsm-kms"]
    namespace: Namespace = "istio-system"
    organization: str = "meshgate"
    chain: str | None = None
    """PEM: the signed certificate of istiod's request, then whatever signed it, up to and with the root."""

    istiod_image: str
    """The patched pilot, with its tag or digest."""

    plugin_image: str
    """The KMS plugin, for example gcr.io/thalescpl-io-k8s-kms-plugin/hsm-plugin:asm-1.7-1."""

    vault_client_image: str
    """What fetches the HSM client's secret from Vault."""

    slot_label: str
    """Label of the HSM's slot."""

    kek_id: str
    """Id of the key-encryption key in that slot."""

    jwt_path: Annotated[str, matching(r"/\S+", "an absolute path")] = "/var/run/secrets/vault/token"
    """Where the Vault client finds its token: one for vault.audience is mounted there, unless it is the service
    account's own, /var/run/secrets/kubernetes.io/serviceaccount/token."""

    jwt_policy: Literal["third-party-jwt", "first-party-jwt"] = "third-party-jwt"
    """Of workloads' tokens; first-party ones are for any audience and never end."""

    client_config: Annotated[str, Field(min_length=1)]
    """The HSM client's configuration: the text of Chrystoki.conf, without secrets."""

    vault: VaultSettings

    @property
    def waiting(self) -> bool:
        """Whether istiod still waits for its signed chain."""
        return self.chain is None

    def problems(self) -> Iterator[Problem]:
        from settings.chain import ChainError, read

        if self.chain is not None:
            try:
                chain = read(self.chain)
            except ChainError as error:
                yield Problem(key="chain", message=str(error))
            else:
                for fault in (*chain.faults(), chain.early(), chain.expired()):
                    if fault:
                        yield Problem(key="chain", message=fault)
        yield from (problem.below("vault") for problem in self.vault.problems())

    def warnings(self) -> Iterator[Problem]:
        """What is right, but not for long."""
        from settings.chain import read

        if self.chain is not None and (ending := read(self.chain).ends_soon()):
            yield Problem(key="chain", message=f"{ending}; have istiod's request signed anew")


AuthoritySettings = Annotated[SelfSignedAuthority | HsmAuthority | HsmKmsAuthority, Field(discriminator="kind")]
