"""The program, with the settings of the layer `teams` from `teams.json`. bench/tenants.py copies it there.

Pulumi hands a stack's whole configuration on in one environment variable, which Linux limits to 128 KiB.
"""

import runpy
from pathlib import Path

import pulumi

import stacks

pulumi.runtime.set_config("meshgate:teams", Path(__file__).with_name("teams.json").read_text())
runpy.run_path(str(Path(stacks.__file__).parents[1] / "__main__.py"), run_name="__main__")
