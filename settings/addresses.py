"""Ranges of addresses that networks of every kind are checked against."""

from __future__ import annotations

from ipaddress import IPv4Network

PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
DOCKER = IPv4Network("172.17.0.0/16")
"""The bridge on the platform's own machines; what has an address there could not be reached from them."""
