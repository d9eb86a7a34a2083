"""Finding secrets where they must not be: every form in which a value could have been written down."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from lab import files

PEM_BYTES = 48
"""In a line of PEM."""


@dataclass(frozen=True)
class Finding:
    """A file that holds a secret."""

    file: str
    secret: str
    """The secret's name; never its value."""


class Needles:
    """Secrets to look for. `directory` gets files with their values, for the owner's eyes alone."""

    def __init__(self, directory: Path, secrets: Mapping[str, str]) -> None:
        self._patterns = {
            name: files.write(directory / f"needle-{number}", "\n".join(sorted(set(forms(value)))) + "\n")
            for number, (name, value) in enumerate(secrets.items())
        }

    def search(self, haystack: Iterable[Path]) -> list[Finding]:
        """The files among these that hold one of the secrets, in whatever form; none of them may go away meanwhile."""
        suspects = _grep(self._patterns.values(), haystack)
        return [
            Finding(str(file), name)
            for name, patterns in self._patterns.items()
            for file in (_grep([patterns], suspects) if suspects else ())
        ]


def forms(value: str) -> Iterator[str]:
    """A value as it is, in hex, and in base64 at each of the three places where it may begin in something longer.

    Of a private key in PEM its number is looked for, which is there in every encoding; what is public too is not.
    """
    if "PRIVATE KEY-----" not in value:
        yield value
        yield from _encoded(value.encode())
        return
    key = load_pem_private_key(value.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    number = key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")
    yield from _encoded(number)
    for encoding in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
        start = key.private_bytes(Encoding.DER, encoding, NoEncryption()).index(number)
        lines = key.private_bytes(Encoding.PEM, encoding, NoEncryption()).decode().splitlines()[1:-1]
        for line in lines[start // PEM_BYTES : (start + len(number) - 1) // PEM_BYTES + 1]:
            yield line
            yield from _encoded(line.encode())


def _encoded(value: bytes) -> Iterator[str]:
    yield value.hex()
    for before in range(3):
        # The characters at both ends depend on what stands beside the value.
        text = b64encode(bytes(before) + value).decode().rstrip("=")
        yield text[(0, 2, 3)[before] : -1]


def _grep(patterns: Iterable[Path], haystack: Iterable[Path]) -> list[Path]:
    # Only the patterns' files are in the arguments.
    given = [text for file in patterns for text in ("-f", str(file))]
    command = ["xargs", "--null", "--no-run-if-empty", "grep", "-l", "-s", "-a", "-F", *given, "--"]
    done = subprocess.run(command, input="\0".join(map(str, haystack)), capture_output=True, text=True)
    # 123: xargs's word for a grep that found nothing (1), or met a file that has gone (2).
    assert done.returncode in (0, 123), done.stderr
    return [Path(line) for line in done.stdout.splitlines()]
