"""Stand-ins for Pulumi plugins that no package registry has: for the lab and the tests only (see guard.py)."""
