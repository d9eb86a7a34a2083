"""Vault's resource types for the stand-in plugin (vault.py), by what they belong to."""
