"""The root of the mesh CA: its key never leaves the PKCS#11 token, its certificate is there too (H1; source: Anthos
Service Mesh on-premises with HSM and Vault)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pkcs11
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from pkcs11 import Attribute, KeyType, ObjectClass
from pkcs11.exceptions import AttributeSensitive, KeyNotWrappable, KeyUnextractable, PinIncorrect, PKCS11Error

from authority.keys import RSA_HASH, TokenEcKey, TokenRsaKey
from settings import Settings
from settings.authority import HsmAuthority
from settings.verify import HsmAccess
from verify.authority_workloads import openssl
from verify.certificates import fingerprint, issued_by
from verify.context import Context
from verify.errors import VerifyError
from verify.exchange import differs, judged
from verify.probe import Outcome, Probe

SCENARIO = "authority"
ROW = "H1"

NOT_CONFIGURED = Outcome(ok=None, observed="meshgate:verify.hsm names no PKCS#11 token to look into")

ATTRIBUTES = {
    Attribute.SENSITIVE: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
}
"""Of a key that was made in the token, and that nobody can have a copy of."""

_one_at_a_time = threading.Lock()
"""A process logs in to a token once, for all of its threads."""

_refused: set[str] = set()
"""Files whose PIN a token refused: it is not tried again, for some wrong ones lock a token."""


def probes(settings: Settings) -> Iterator[Probe]:
    """The probes of a CA whose root's key is in an HSM; the vendor's istiod has only its own key's key there."""
    authority = settings.authority
    if not isinstance(authority, HsmAuthority):
        return
    signs = Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="the root's key, made in the token, signs; the root certificate in the token verifies it",
        attempt=partial(_with_token, _signs),
    )
    yield signs
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected="the root's key read out of the token, plain and wrapped: refused; sensitive, never extractable",
        attempt=partial(_with_token, _stays),
        pair=signs,
    )
    yield Probe(
        row=ROW,
        scenario=SCENARIO,
        expected=f"the signed chain of generation {authority.signer.name} verifies against the root certificate in the "
        "token",
        attempt=partial(_with_token, _chain_verifies),
    )


class Token:
    """The opened token, and the root that the active generation's chain ends at."""

    def __init__(self, session: pkcs11.Session, chain: list[x509.Certificate]) -> None:
        self._session = session
        self.chain = chain
        self.roots = {
            x509.load_der_x509_certificate(found[Attribute.VALUE]): found[Attribute.ID]
            for found in session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE})
        }
        """The certificates that were imported, with their ids."""

    def key(self) -> Any:
        """The root's key. Raises VerifyError when the token does not have it, or its certificate."""
        root = self.chain[-1]
        if root not in self.roots:
            raise VerifyError(
                f"the token has no certificate {fingerprint(root)}: `python -m authority root` imports it"
            )
        wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: self.roots[root]}
        found = list(self._session.get_objects(wanted))
        if not found:
            raise VerifyError(f"the token has no private key with the id of the certificate {fingerprint(root)}")
        return found[0]

    def wrapping_key(self) -> Any:
        """A key that could wrap others, gone with the session."""
        return self._session.generate_key(KeyType.AES, 256, store=False)


def _with_token(ask: Callable[[Context, Token], Outcome], context: Context) -> Outcome:
    access, authority = context.settings.verify.hsm, context.settings.authority
    assert isinstance(authority, HsmAuthority)
    if access is None:
        return NOT_CONFIGURED
    if authority.signer.chain is None:
        raise VerifyError(f"generation {authority.signer.name} has no chain in the configuration")
    chain = x509.load_pem_x509_certificates(authority.signer.chain.encode())
    with _session(access) as session:
        return ask(context, Token(session, chain))


@contextmanager
def _session(access: HsmAccess) -> Iterator[pkcs11.Session]:
    pin = _pin(access.pin_file)
    with _one_at_a_time:
        if access.pin_file in _refused:
            raise VerifyError(_wrong_pin(access))
        try:
            with pkcs11.lib(access.module).get_token(token_label=access.token_label).open(user_pin=pin) as session:
                yield session
        except PinIncorrect:
            _refused.add(access.pin_file)
            raise VerifyError(_wrong_pin(access)) from None
        except (PKCS11Error, RuntimeError) as error:
            # Its errors are their names.
            said = f"{type(error).__name__} {error}".strip()
            raise VerifyError(f"token '{access.token_label}' of {access.module}: {said}") from None


def _wrong_pin(access: HsmAccess) -> str:
    return f"meshgate:verify.hsm.pinFile: token '{access.token_label}' refuses the PIN of {access.pin_file}"


def _pin(path: str) -> str:
    file = Path(path).expanduser()
    try:
        if file.stat().st_mode & 0o077:
            raise VerifyError(f"meshgate:verify.hsm.pinFile: others can read {path}; `chmod 600` it")
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise VerifyError(f"meshgate:verify.hsm.pinFile: cannot read {path}: {error.strerror}") from None


def _signs(context: Context, token: Token) -> Outcome:
    root = token.chain[-1]
    text = context.directory.name.encode()
    ok = _verifies(root, token.key(), text)
    return judged(
        "the token signed" if ok else "the token signed with another key",
        [] if ok else [f"its signature does not verify by {fingerprint(root)}"],
        f"PKCS#11: C_Sign; verified by {fingerprint(root)}, which is in the token",
    )


def _verifies(root: x509.Certificate, key: Any, text: bytes) -> bool:
    public = root.public_key()
    try:
        if isinstance(public, rsa.RSAPublicKey):
            signature = TokenRsaKey(key, public).sign(text, padding.PKCS1v15(), RSA_HASH)
            public.verify(signature, text, padding.PKCS1v15(), RSA_HASH)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            signature = TokenEcKey(key, public).sign(text, ec.ECDSA(hashes.SHA256()))
            public.verify(signature, text, ec.ECDSA(hashes.SHA256()))
        else:
            raise VerifyError(f"{fingerprint(root)} has a key that is neither RSA nor ECDSA")
    except InvalidSignature:
        return False
    return True


def _stays(context: Context, token: Token) -> Outcome:
    key = token.key()
    rsa_key = key[Attribute.KEY_TYPE] is KeyType.RSA
    secret = Attribute.PRIVATE_EXPONENT if rsa_key else Attribute.VALUE
    said = [
        _refusal(f"C_GetAttributeValue(CKA_{secret.name})", lambda: key[secret], AttributeSensitive),
        _refusal("C_WrapKey", lambda: token.wrapping_key().wrap_key(key), KeyUnextractable, KeyNotWrappable),
    ]
    attributes = {f"CKA_{attribute.name}": bool(key[attribute]) for attribute in ATTRIBUTES}
    right = {f"CKA_{attribute.name}": value for attribute, value in ATTRIBUTES.items()}
    return judged(
        "; ".join(said),
        [
            *(f"{one}: the key came out" for one in said if one.endswith(GIVEN)),
            *differs("its attributes", attributes, right),
        ],
        f"PKCS#11: {'; '.join(said)}; {', '.join(f'{name} {value}' for name, value in attributes.items())}",
    )


GIVEN = "given"


def _refusal(what: str, attempt: Callable[[], object], *refusals: type[PKCS11Error]) -> str:
    """What the token says to an attempt on the key; another error than these is none of its refusals."""
    try:
        attempt()
    except refusals as error:
        return f"{what}: {type(error).__name__}"
    return f"{what}: {GIVEN}"


def _chain_verifies(context: Context, token: Token) -> Outcome:
    *others, root = token.chain
    faults = [
        f"{fingerprint(one)} is not signed by {fingerprint(issuer)}"
        for one, issuer in pairwise(token.chain)
        if not issued_by(one, issuer)
    ]
    if root not in token.roots:
        there = ", ".join(map(fingerprint, token.roots)) or "none"
        faults.append(f"the root {fingerprint(root)} is not among the token's certificates ({there})")
    observed = f"{fingerprint(others[0])} issued by {fingerprint(root)}" if others else "the root alone"
    return judged(observed, faults, openssl(context, token.chain[:-1], list(token.roots)))
