"""Private keys that stay in their token, as `cryptography` wants them: its builders sign with them as with any other.

https://cryptography.io/en/latest/hazmat/primitives/asymmetric/cloudhsm/ describes the way. Only mechanisms that every
HSM has are asked for.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pkcs11 import KeyType, Mechanism, PublicKey, SignMixin
from pkcs11.util.ec import encode_ec_public_key
from pkcs11.util.rsa import encode_rsa_public_key

from authority.errors import AuthorityError

Hash = hashes.SHA256 | hashes.SHA384

RSA_HASH = hashes.SHA384()
EC_HASHES: dict[str, Hash] = {"secp256r1": hashes.SHA256(), "secp384r1": hashes.SHA384()}
"""The hash of a signature, by the curve."""


class _InToken:
    """What a private key in a token does not do: it is neither shown nor copied."""

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError("the key stays in its token")

    def private_bytes(self, encoding: Any, format: Any, encryption_algorithm: Any) -> NoReturn:
        raise NotImplementedError("the key stays in its token")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class TokenEcKey(_InToken, ec.EllipticCurvePrivateKey):
    """An EC key; the token signs a digest made here (CKM_ECDSA)."""

    def __init__(self, key: SignMixin, public: ec.EllipticCurvePublicKey) -> None:
        self._key = key
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    @property
    def hash(self) -> Hash:
        """As strong as the curve."""
        return EC_HASHES[self.curve.name]

    def sign(self, data: Any, signature_algorithm: Any) -> bytes:
        digest = hashes.Hash(signature_algorithm.algorithm)
        digest.update(data)
        signature = self._key.sign(digest.finalize(), mechanism=Mechanism.ECDSA)
        half = len(signature) // 2
        return encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))

    def exchange(self, algorithm: Any, peer_public_key: Any) -> NoReturn:
        raise NotImplementedError("the key only signs")


class TokenRsaKey(_InToken, rsa.RSAPrivateKey):
    """An RSA key; the token makes the digest too (CKM_SHA384_RSA_PKCS)."""

    def __init__(self, key: SignMixin, public: rsa.RSAPublicKey) -> None:
        self._key = key
        self._public = public

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    @property
    def hash(self) -> Hash:
        """The only one that it signs with."""
        return RSA_HASH

    def sign(self, data: Any, padding: Any, algorithm: Any) -> bytes:
        return self._key.sign(bytes(data), mechanism=Mechanism.SHA384_RSA_PKCS)

    def decrypt(self, ciphertext: bytes, padding: Any) -> NoReturn:
        raise NotImplementedError("the key only signs")


TokenKey = TokenEcKey | TokenRsaKey


def token_key(key: SignMixin, public: CertificatePublicKeyTypes) -> TokenKey:
    """The token's private key, with the public key that is said to belong to it."""
    if isinstance(public, rsa.RSAPublicKey) and key.key_type is KeyType.RSA:
        return TokenRsaKey(key, public)
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name in EC_HASHES and key.key_type is KeyType.EC:
        return TokenEcKey(key, public)
    raise AuthorityError("the key and its certificate must both be RSA, or both EC on the curve P-256 or P-384")


def public_key(key: PublicKey) -> CertificatePublicKeyTypes:
    """The public half of a key pair, out of its token."""
    encode = encode_rsa_public_key if key.key_type is KeyType.RSA else encode_ec_public_key
    return cast(CertificatePublicKeyTypes, load_der_public_key(encode(key)))
