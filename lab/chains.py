"""The signed chains of the lab's mesh CAs, as their operator keeps them: a PEM file for each generation of a stack.

On the lab they are laid into a stack's configuration, where an operator would put them into Pulumi.<stack>.yaml.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.instance import Instance

SECTION = "meshgate:authority"
REQUEST = "tls:index/certRequest:CertRequest"


def file(instance: Instance, stack: str, generation: str) -> Path:
    """Where the chain of a generation is kept, also while there is none."""
    return instance.directory / "authority" / stack / f"{generation}.pem"


def laid(instance: Instance, stack: str, config: Mapping[str, Any], state: Path) -> dict[str, Any]:
    """A stack's configuration with the kept chains in those of its generations that have none.

    A chain is for one key. When the stack was destroyed, and its request made anew, the chain that is kept is not used.
    """
    waiting = [generation["name"] for generation in unsigned(config)]
    kept = {name: file(instance, stack, name) for name in waiting if file(instance, stack, name).exists()}
    if not kept:
        return dict(config)
    requested = _requested_keys(state)
    chains = {name: path.read_text() for name, path in kept.items() if _key(path) in requested}
    section = config[SECTION]
    generations = [
        {**it, "chain": chains[it["name"]]} if it in unsigned(config) and it["name"] in chains else it
        for it in section["generations"]
    ]
    return {**config, SECTION: {**section, "generations": generations}}


def unsigned(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The generations without a chain of a mesh CA that an HSM signs, if this stack has one."""
    section = config.get(SECTION, {})
    if "authority" not in config.get("meshgate:layers", []) or section.get("kind") != "hsm":
        return []
    return [generation for generation in section.get("generations", []) if not generation.get("chain")]


def requests(state: Path) -> dict[str, str]:
    """The requests that a stack exports (its output authority_generations): generation -> PEM."""
    for resource in _resources(state):
        if resource["type"] == "pulumi:pulumi:Stack":
            generations = resource.get("outputs", {}).get("authority_generations", {})
            return {name: generation["request"] for name, generation in generations.items()}
    return {}


def _requested_keys(state: Path) -> set[bytes]:
    pems = [it["outputs"]["certRequestPem"] for it in _resources(state) if it["type"] == REQUEST and it.get("outputs")]
    return {_bytes(x509.load_pem_x509_csr(pem.encode())) for pem in pems}


def _key(chain: Path) -> bytes:
    return _bytes(x509.load_pem_x509_certificate(chain.read_bytes()))


def _bytes(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _resources(state: Path) -> list[dict[str, Any]]:
    if not state.exists():
        return []
    latest: dict[str, Any] = json.loads(state.read_text())["checkpoint"]["latest"] or {}
    return [resource for resource in latest.get("resources") or [] if not resource.get("delete")]
