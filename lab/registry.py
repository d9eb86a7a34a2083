"""The image registry: serves the images that `tools` built, read-only, under their public names."""

import json
import os

import tools
from lab.files import write
from lab.instance import Instance
from lab.programs import system
from lab.service import Service
from lab.topology import CONTROL, CONTROL_PLANE, REGISTRY_PORT

URL = f"http://{CONTROL_PLANE}:{REGISTRY_PORT}"


def registry(instance: Instance) -> Service:
    """docker-registry. Raises tools.NotBuilt when there are no images."""
    configuration = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": os.fspath(tools.registry_dir())},
            "maintenance": {"readonly": {"enabled": True}, "uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"{CONTROL_PLANE}:{REGISTRY_PORT}"},
    }
    path = write(instance.directory / CONTROL / "registry.json", json.dumps(configuration, indent=2))
    command = (system("docker-registry"), "serve", str(path))
    return Service(CONTROL, "registry", command, f"{URL}/v2/", files=(path,))


def mirror_directory(instance: Instance) -> str:
    """Write containerd's host configuration that sends every pull to the registry, and return its directory."""
    directory = instance.directory / "certs.d"
    hosts = f'server = "{URL}"\n\n[host."{URL}"]\n  capabilities = ["pull", "resolve"]\n'
    write(directory / "_default" / "hosts.toml", hosts)
    return str(directory)
