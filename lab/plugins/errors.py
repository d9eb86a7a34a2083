"""The stand-ins' own error, apart from what takes long to import."""


class PluginError(Exception):
    """Something that the user can understand and put right: shown without a traceback."""
