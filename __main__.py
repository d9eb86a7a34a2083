"""The Pulumi program: reads the settings and hands them to the stacks."""

import pulumi

import stacks
from settings import SettingsError, load, stack_config

try:
    stacks.build(load(stack_config()))
except SettingsError as error:
    raise pulumi.RunError(str(error)) from None
