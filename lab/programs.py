"""Where the lab's programs are: the pinned ones in the tools' cache, the others in Debian's packages."""

import os
import shutil

import tools
from lab.errors import LabError

# A caller's PATH may lack the directories of the administration programs.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pinned(name: str) -> str:
    """A program that `tools` builds. Raises tools.NotBuilt."""
    return os.fspath(tools.program(name))


def system(name: str) -> str:
    """A program of a Debian package. Raises LabError."""
    if path := shutil.which(name, path=SYSTEM_PATH):
        return path
    raise LabError(f"{name} is not installed: run `make tools`, which installs the Debian packages that the lab needs")
