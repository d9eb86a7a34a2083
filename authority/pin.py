"""Where a PIN comes from. Never an argument or the environment: other people and programs see those."""

from __future__ import annotations

import os
import warnings
from getpass import GetPassWarning, getpass

from authority.errors import AuthorityError


def ask(what: str, *, again: bool = False) -> str:
    """The PIN as typed on the terminal, unseen; twice where nothing would tell a slip of the finger (`again`)."""
    try:
        with warnings.catch_warnings():
            # Without a terminal getpass would read, and show, what comes on stdin.
            warnings.simplefilter("error", GetPassWarning)
            pin = getpass(f"{what}: ")
            if again and getpass(f"{what}, once more: ") != pin:
                raise AuthorityError("the two PINs differ")
    except (GetPassWarning, EOFError, OSError):
        raise AuthorityError("there is no terminal to ask for the PIN: give it with --pin-fd") from None
    return checked(pin)


def from_descriptor(number: int) -> str:
    """The one line that can be read from an open file descriptor, such as 3 of `3<pin`."""
    try:
        with os.fdopen(number, encoding="utf-8") as file:
            return checked(file.read().removesuffix("\n"))
    except OSError as error:
        raise AuthorityError(f"--pin-fd: cannot read file descriptor {number}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthorityError("--pin-fd: what it gives is not UTF-8 text") from None


def checked(pin: str) -> str:
    """The PIN, unless it cannot be one."""
    if not pin:
        raise AuthorityError("the PIN is empty")
    if not pin.isprintable():
        raise AuthorityError("the PIN must be one line of printable characters")
    return pin
