"""The error that is shown to people as it is."""


class AuthorityError(Exception):
    """Something keeps a command from its work; the text says what, and what would be right. Holds no secret."""
