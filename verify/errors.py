"""The error that is shown to people as it is."""


class VerifyError(Exception):
    """Something keeps verify, or one probe, from asking its question; the text says what, and what would be right."""
