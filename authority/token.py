"""One PKCS#11 token: found by its label or slot, opened with a PIN, and what the commands keep in it.

A key pair and its certificate have one label and one CKA_ID; a certificate is found by its key's CKA_ID.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pkcs11
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, Object, ObjectClass, SignMixin, TokenFlag
from pkcs11.exceptions import (
    PinExpired,
    PinIncorrect,
    PinInvalid,
    PinLenRange,
    PinLocked,
    PKCS11Error,
    TokenNotPresent,
    TokenNotRecognised,
    UserPinNotInitialized,
)
from pkcs11.util.ec import encode_named_curve_parameters
from pkcs11.util.x509 import decode_x509_certificate

from authority.errors import AuthorityError
from authority.keys import TokenKey, public_key, token_key

Tell = Callable[[str], None]

CURVES = {"ec-p256": "secp256r1", "ec-p384": "secp384r1"}
RSA_SIZES = {"rsa-3072": 3072, "rsa-4096": 4096}
KEY_TYPES = (*CURVES, *RSA_SIZES)
DEFAULT_KEY_TYPE = "ec-p384"

CONFIGURATION = "the module's own configuration right (SOFTHSM2_CONF, ChrystokiConfigurationPath)"

KINDS = {
    ObjectClass.PRIVATE_KEY: "private key",
    ObjectClass.PUBLIC_KEY: "public key",
    ObjectClass.CERTIFICATE: "certificate",
}


class Token:
    """A token that is logged in to."""

    def __init__(self, session: pkcs11.Session) -> None:
        self._session = session

    def holds(self, label: str) -> list[str]:
        """The kinds of objects that have this label, such as "private key"."""
        found = self._session.get_objects({Attribute.LABEL: label})
        return sorted(KINDS.get(item[Attribute.CLASS], "object") for item in found)

    def key(self, label: str) -> Key:
        """The private key of this label. Raises AuthorityError when there is none that signs, or more than one."""
        private = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
        found = list(self._session.get_objects(private | {Attribute.LABEL: label}))
        if not found:
            labels = ", ".join(sorted(_label(key) for key in self._session.get_objects(private))) or "none"
            raise AuthorityError(f"no private key in the token has the label {label!r}; there are: {labels}")
        if len(found) > 1:
            raise AuthorityError(f"{len(found)} private keys in the token have the label {label!r}; rename all but one")
        return Key(self._session, found[0])

    @contextmanager
    def new_key(self, label: str, key_type: str) -> Iterator[tuple[Key, TokenKey]]:
        """A key pair that can never leave the token, for signing only; removed again when the block fails."""
        public, private = self._generate(label, key_type)
        try:
            key = Key(self._session, private)
            yield key, key.signer(public_key(public))
        except BaseException:
            for item in (private, public):
                with suppress(PKCS11Error):
                    item.destroy()
            raise

    def _generate(self, label: str, key_type: str) -> tuple[pkcs11.PublicKey, pkcs11.PrivateKey]:
        common: dict[str, Any] = {
            "id": secrets.token_bytes(20),
            "label": label,
            "store": True,
            "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
            # Neither later: what a key may be used for, and that it stays, are decided once.
            "private_template": {Attribute.EXTRACTABLE: False, Attribute.MODIFIABLE: False},
        }
        if key_type in RSA_SIZES:
            self._require(Mechanism.RSA_PKCS_KEY_PAIR_GEN, Mechanism.SHA384_RSA_PKCS)
            return self._session.generate_keypair(KeyType.RSA, RSA_SIZES[key_type], **common)
        self._require(Mechanism.EC_KEY_PAIR_GEN, Mechanism.ECDSA)
        curve = encode_named_curve_parameters(CURVES[key_type])
        return self._session.generate_keypair(KeyType.EC, public_template={Attribute.EC_PARAMS: curve}, **common)

    def _require(self, *mechanisms: Mechanism) -> None:
        missing = set(mechanisms) - self._session.token.slot.get_mechanisms()
        if missing:
            names = ", ".join(sorted(f"CKM_{mechanism.name}" for mechanism in missing))
            raise AuthorityError(f"the token does not have {names}; choose another --key-type")


class Key:
    """A private key in the token, and the certificate that belongs to it."""

    def __init__(self, session: pkcs11.Session, key: Object) -> None:
        self._session = session
        self.label: str = key[Attribute.LABEL]
        if not isinstance(key, SignMixin):
            raise AuthorityError(f"the key {self.label!r} may not sign (CKA_SIGN is false)")
        self._key = key
        self._id: bytes = key[Attribute.ID]

    def signer(self, public: CertificatePublicKeyTypes) -> TokenKey:
        """The key for `cryptography`'s builders; `public` is said to be its public half."""
        return token_key(self._key, public)

    def certificate(self) -> x509.Certificate | None:
        """The key's certificate; None when the token has none. Raises AuthorityError when it has several."""
        found = list(self._session.get_objects({Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.ID: self._id}))
        if len(found) > 1:
            raise AuthorityError(
                f"the token has {len(found)} certificates for the key {self.label!r}; remove all but one"
            )
        try:
            return x509.load_der_x509_certificate(found[0][Attribute.VALUE]) if found else None
        except ValueError as error:
            raise AuthorityError(f"the certificate of the key {self.label!r} in the token cannot be read") from error

    def store(self, certificate: x509.Certificate) -> None:
        """Import the key's certificate into the token."""
        self._session.create_object(
            decode_x509_certificate(certificate.public_bytes(Encoding.DER))
            | {
                Attribute.TOKEN: True,
                Attribute.PRIVATE: False,
                Attribute.LABEL: self.label,
                Attribute.ID: self._id,
            }
        )


@contextmanager
def opened(
    module: str, *, label: str | None, slot: int | None, pin: Callable[[], str], tell: Tell, write: bool = False
) -> Iterator[Token]:
    """The token with this label or in this slot, logged in to as its user with the PIN that `pin` gets.

    `module` is the path of the PKCS#11 library; `tell` shows a warning. Raises AuthorityError.
    """
    token = _find(module, label, slot)
    session = _log_in(token, pin, tell, write=write)
    try:
        yield Token(session)
    except PKCS11Error as error:
        raise AuthorityError(f"the token {token.label!r} answers: {_name(error)}") from error
    finally:
        with suppress(PKCS11Error):
            session.close()


def _find(module: str, label: str | None, slot: int | None) -> pkcs11.Token:
    tokens = list(_tokens(module))
    found = [token for token in tokens if (token.slot.slot_id == slot if label is None else token.label == label)]
    if len(found) == 1:
        return found[0]
    wanted = f"in slot {slot}" if label is None else f"with the label {label!r}"
    if not tokens:
        raise AuthorityError(f"there is no initialised token {wanted}, nor any other; is {CONFIGURATION}?")
    seen = ", ".join(f"{token.label!r} in slot {token.slot.slot_id}" for token in tokens)
    if found:
        raise AuthorityError(f"there are {len(found)} tokens {wanted}: choose one by --slot ({seen})")
    raise AuthorityError(f"there is no initialised token {wanted}; there are: {seen}")


def _tokens(module: str) -> Iterator[pkcs11.Token]:
    try:
        for slot in pkcs11.lib(module).get_slots(token_present=True):
            with suppress(TokenNotPresent, TokenNotRecognised):
                token = slot.get_token()
                if token.flags & TokenFlag.TOKEN_INITIALIZED:
                    yield token
    except PKCS11Error as error:
        raise AuthorityError(
            f"cannot use the PKCS#11 module {module}: {_name(error)}; is it the HSM's library, and is {CONFIGURATION}?"
        ) from error


def _log_in(token: pkcs11.Token, pin: Callable[[], str], tell: Tell, *, write: bool) -> pkcs11.Session:
    if token.flags & TokenFlag.USER_PIN_LOCKED:
        raise AuthorityError(f"the PIN of the token {token.label!r} is locked; its security officer can reset it")
    if token.flags & TokenFlag.USER_PIN_FINAL_TRY:
        tell(f"the next wrong PIN locks the token {token.label!r}")
    try:
        return token.open(rw=write, user_pin=pin())
    except (PinIncorrect, PinInvalid, PinLenRange):
        raise AuthorityError(
            f"the token {token.label!r} refuses the PIN; some more wrong ones lock it: make sure of the PIN first"
        ) from None
    except PinLocked:
        raise AuthorityError(
            f"the PIN of the token {token.label!r} is locked now; its security officer can reset it"
        ) from None
    except (PinExpired, UserPinNotInitialized) as error:
        raise AuthorityError(
            f"the token {token.label!r} has no valid user PIN ({_name(error)}); its security officer sets one"
        ) from error
    except PKCS11Error as error:
        raise AuthorityError(f"cannot log in to the token {token.label!r}: {_name(error)}") from error


def _label(item: Object) -> str:
    try:
        return repr(item[Attribute.LABEL])
    except (PKCS11Error, UnicodeDecodeError):
        return "one without a readable label"


def _name(error: PKCS11Error) -> str:
    """What the library says, or else the name of the return code, such as DeviceError for CKR_DEVICE_ERROR."""
    return str(error) or type(error).__name__
