"""The Pulumi program: reads the settings and hands them to the stacks."""

import gc
import signal

import pulumi

import stacks
from settings import SettingsError, load, stack_config

# The program lives for a moment and keeps all that it makes: collecting garbage would find none, and takes a twentieth
# of a run that changes nothing.
gc.disable()
# When a resource fails, the engine interrupts the program; Python's own answer to that is a traceback which hides the
# engine's message.
signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    stacks.build(load(stack_config()))
except SettingsError as error:
    raise pulumi.RunError(str(error)) from None
