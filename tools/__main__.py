"""`python -m tools`: builds, lists and prunes the toolchain, and installs the Debian packages that the lab needs."""

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from tools.build import PARTS, build, prune, select
from tools.cache import cache_dir
from tools.errors import ToolsError
from tools.packages import install
from tools.progress import Progress


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build", help="build what is missing, all of it or the named parts")
    building.add_argument("parts", nargs="*", metavar="PART", help=", ".join(part.name for part in PARTS))
    listing = commands.add_parser("list", help="show each part, its key, and whether it is built")
    listing.add_argument("--json", action="store_true")
    commands.add_parser("packages", help="install the Debian packages that are missing (root)")
    commands.add_parser("prune", help="remove what older versions of this checkout built")
    options = parser.parse_args(arguments)
    progress = Progress()
    try:
        match options.command:
            case "build":
                build(select(options.parts), progress)
            case "list":
                show(as_json=options.json)
            case "packages":
                install(progress)
            case "prune":
                prune(progress)
    except ToolsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


def show(*, as_json: bool) -> None:
    if as_json:
        rows = [{"name": p.name, "key": p.key, "built": p.built, "directory": str(p.directory)} for p in PARTS]
        print(json.dumps(rows, indent=2))
        return
    table = Table("part", "built", "directory", title=f"cache: {cache_dir()}", title_justify="left")
    for part in PARTS:
        table.add_row(part.name, "yes" if part.built else "no", f"{part.shelf}/{part.key}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
