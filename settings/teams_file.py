"""The section `teams` in a file of its own: `meshgate:teams: {file: teams.yaml}`.

Pulumi hands a stack's whole configuration to the program in one environment variable, which Linux limits to 128 KiB:
about fifty teams with twenty hosts each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class FileError(Exception):
    """The file cannot be used; its text says what is wrong and what would be right."""


def is_file(section: Any) -> bool:
    """Whether a section only names its file."""
    return isinstance(section, Mapping) and section.keys() == {"file"}


def from_file(section: Mapping[str, Any]) -> Any:
    """The section in the YAML file that this one names; a relative path starts where Pulumi.yaml is.

    Raises FileError.
    """
    # Most stacks have no such file.
    import yaml

    path = Path(str(section["file"])).expanduser()
    try:
        # The parser in C, where there is one: hundreds of teams are megabytes.
        return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise FileError(f"'{path}' cannot be read: {reason}; it must be a YAML file with this section") from None
    except yaml.YAMLError as error:
        raise FileError(f"'{path}' is no YAML: {' '.join(str(error).split())}") from None
