"""The runner: Pulumi, or any other command, in the lab's own environment and network.

Pulumi's home, state, passphrase and project file for the lab live in the lab's directory, so that a caller's own are
never touched, and so that only here the stand-in plugins are found (lab/plugins).
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any, TextIO

import yaml

import tools
from lab import chains, files, hsm, pki, vault
from lab.errors import LabError
from lab.instance import Instance, base_directory
from lab.machine import enter
from lab.plugins import guard
from lab.programs import SYSTEM_PATH
from lab.topology import CLIENTS, CONTROL

CHECKOUT = Path(__file__).resolve().parent.parent
OVERLAY = CHECKOUT / "lab" / "overlay.yaml"
STAND_IN_PROGRAMS = CHECKOUT / "lab" / "plugins" / "bin"
STAND_IN_CHARTS = CHECKOUT / "lab" / "charts"
# What a program may need of the caller's environment; everything else stays out, so that no credential, backend or
# kubeconfig of the caller reaches the lab.
PASSED_ON = ("HOME", "USER", "LOGNAME", "TERM", "COLORTERM", "NO_COLOR", "LANG", "TZ", "TMPDIR", "CI", "XDG_CACHE_HOME")
PASSED_ON_PREFIXES = ("LC_", "MESHGATE_")

STAND_INS = ("pulumi-resource-aws", "pulumi-resource-gcp", "pulumi-resource-tls", "pulumi-resource-vault")
CREDENTIALS = ("aws", "gke-gcloud-auth-plugin")
"""What kubeconfigs of simulated clusters run for credentials."""

PLUGINS = ("pulumi-language-python", "pulumi-analyzer-policy-python", "pulumi-resource-kubernetes")


def environment(instance: Instance) -> dict[str, str]:
    """The environment in which Pulumi works on this lab, and the files that it names. Raises tools.NotBuilt."""
    directory = _directory(instance)
    home, state, passphrase = directory / "home", directory / "state", directory / "passphrase"
    for made in (home, state):
        made.mkdir(mode=0o700, exist_ok=True)
    guard.mark(state)
    if not passphrase.exists():
        files.write(passphrase, secrets.token_urlsafe(32))
    _provide_plugins(home / "plugins")
    for name in CREDENTIALS:
        _link(home / "bin" / name, STAND_IN_PROGRAMS / name)
    own = {key: value for key, value in os.environ.items() if key in PASSED_ON or key.startswith(PASSED_ON_PREFIXES)}
    # The project's virtual environment comes first: the language host runs the `python` that it finds on PATH.
    path = [str(Path(sys.prefix) / "bin"), *map(str, tools.programs_path()), str(home / "bin"), SYSTEM_PATH]
    return own | {
        "PATH": os.pathsep.join(path),
        "PYTHONPATH": str(CHECKOUT),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(passphrase),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # Plugins come from PULUMI_HOME alone: those on PATH are used too, but each with a warning.
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        # Most of what it does is waiting for pods; usual are four at a time for each CPU.
        "PULUMI_PARALLEL": "32",
        # Gives pulumi the option --event-log, from which a simulation counts the resources.
        "PULUMI_DEBUG_COMMANDS": "true",
        "HELM_CACHE_HOME": str(home / "helm" / "cache"),
        "HELM_CONFIG_HOME": str(home / "helm" / "config"),
        "HELM_DATA_HOME": str(home / "helm" / "data"),
        "KUBECONFIG": str(instance.kubeconfig),
        "SSL_CERT_FILE": str(_trusted(instance, directory / "trusted.pem")),
        "KUBECACHEDIR": str(home / "kube" / "cache"),
        "MESHGATE_LAB": instance.name,
        "MESHGATE_LAB_DIR": str(base_directory()),
        **vault.environment(instance),
        **hsm.environment(instance),
    }


def workspace(
    instance: Instance, stack: str, config_file: Path | None = None, changes: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """The directory from which Pulumi works on a stack of this lab: project file and the stack's configuration."""
    directory = project(instance)
    target = directory / f"Pulumi.{stack}.yaml"
    result: dict[str, Any] = {"config": configuration(instance, stack, config_file, changes)}
    # Without it, what an earlier run encrypted into the state could not be read any more.
    if salt := target.exists() and _load(target).get("encryptionsalt"):
        result["encryptionsalt"] = salt
    files.write(target, yaml.safe_dump(result, sort_keys=False))
    return directory


def configuration(
    instance: Instance, stack: str, config_file: Path | None = None, changes: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """A stack's configuration on this lab.

    `config_file` is Pulumi.<stack>.yaml of the checkout unless told otherwise; lab/overlay.yaml, then `changes` and the
    mesh CA's signed chains (lab/chains.py) are laid over it.
    """
    source = config_file or CHECKOUT / f"Pulumi.{stack}.yaml"
    config = overlaid(_config(_load(source), source), [*overlay(instance), *changes])
    return chains.laid(instance, stack, config, state_file(instance, stack))


def project(instance: Instance) -> Path:
    """The directory with the lab's copy of Pulumi.yaml, whose program is the checkout."""
    directory = _directory(instance) / "project"
    # `runtime` without options: the language host runs the python on PATH, whatever an option names.
    description = _load(CHECKOUT / "Pulumi.yaml") | {"main": str(CHECKOUT), "runtime": "python"}
    files.write(directory / "Pulumi.yaml", yaml.safe_dump(description, sort_keys=False))
    return directory


def overlay(instance: Instance) -> list[dict[str, Any]]:
    """The parts of lab/overlay.yaml with this lab's values filled in."""
    values = {
        "kubeconfig": str(instance.kubeconfig),
        "charts": str(tools.charts_dir()),
        "stand_in_charts": str(STAND_IN_CHARTS),
        "instance": instance.name,
        "internet_ca": str(instance.internet_ca),
        "internet_client_certificate": str(instance.internet_client_certificate),
        "internet_client_key": str(instance.internet_client_key),
        "vault": vault.ADDRESS,
        "vault_ca": str(instance.vault_ca),
        "vault_audit_log": str(vault.audit_log(instance)),
        "vault_other_mount": vault.OTHER_CLUSTER,
        "hsm_module": str(hsm.module()),
        "hsm_token": hsm.LABEL,
        "hsm_pin": str(hsm.pin(instance)),
        **{name.replace("-", "_"): str(instance.netns(name)) for name in CLIENTS},
    }
    filled: list[dict[str, Any]] = _filled(yaml.safe_load(OVERLAY.read_text()), values)
    return filled


def overlaid(config: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A stack's configuration with those parts laid over it, in turn, whose `when` it meets.

    `when` maps layers, or settings of layers (`teams.credentials.internet`), to the kind that they must be of, and a
    setting that is no mapping (`authority.vault.mount`) to what it must be.
    """
    result = dict(config)
    for part in parts:
        if all(_holds(config, layer, kind) for layer, kind in part.get("when", {}).items()):
            result = merged(result, {key: value for key, value in part.items() if key != "when"})
    return result


def _holds(config: Mapping[str, Any], path: str, kind: str) -> bool:
    layer, *keys = path.split(".")
    section = config.get(f"meshgate:{layer}", {})
    for key in keys:
        section = section.get(key, {}) if isinstance(section, Mapping) else {}
    # A layer that names no kind is of its default one, which is what anybody here asks for.
    default = "" if keys else kind
    given = section.get("kind", default) if isinstance(section, Mapping) else section
    return layer in config.get("meshgate:layers", []) and given == kind


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both, `over` winning: mappings are merged at every depth, anything else is replaced as a whole."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def command(instance: Instance, program: Sequence[str], directory: Path, machine: str = CONTROL) -> list[str]:
    """The command that runs a program in a machine, in `directory`; its environment is `environment(instance)`."""
    # nsenter waits for the program in between and would end at Ctrl-C, or when SIGTERM ends a whole process group,
    # before the program had time to end well. So it is started ignoring both (see execute), and env gives them back to
    # the program.
    return [*enter(instance, machine, directory), "env", "--default-signal=INT,QUIT,TERM", *program]


def execute(
    instance: Instance,
    program: Sequence[str],
    directory: Path,
    machine: str = CONTROL,
    *,
    stdout: TextIO | None = None,
) -> int:
    """Runs a program in the lab's environment and in a machine's network: its exit code."""
    line = command(instance, program, directory, machine)
    with _interrupts_left_to_the_program():
        code = subprocess.run(line, env=environment(instance), stdout=stdout).returncode
    return code if code >= 0 else 128 - code


def pulumi(
    instance: Instance,
    stack: str,
    arguments: Sequence[str],
    config_file: Path | None = None,
    *,
    changes: Sequence[Mapping[str, Any]] = (),
    stdout: TextIO | None = None,
) -> int:
    """Runs `pulumi <arguments> --stack <stack>` on the lab: its exit code. A stack that is not there yet is made."""
    directory = workspace(instance, stack, config_file, changes)
    if arguments[0] != "stack" and not state_file(instance, stack).exists():
        init = ["pulumi", "stack", "init", "--no-select", stack]
        if code := execute(instance, init, directory, stdout=stdout):
            return code
    return execute(instance, ["pulumi", *arguments, "--stack", stack], directory, stdout=stdout)


def pulumi_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab pulumi`."""
    parser.usage = "python -m lab [--instance NAME] pulumi [--config-file FILE] -s STACK COMMAND ..."
    parser.add_argument("--config-file", type=Path, metavar="FILE", help="default: Pulumi.STACK.yaml")
    parser.add_argument("-s", "--stack", required=True)
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="as for pulumi itself")


def run_pulumi(instance: Instance, arguments: argparse.Namespace) -> int:
    """`python -m lab pulumi`."""
    if not arguments.program:
        raise LabError("name what pulumi is to do, for example: python -m lab pulumi -s dev preview")
    return pulumi(instance, arguments.stack, arguments.program, arguments.config_file)


def command_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab run`."""
    shell_arguments(parser)
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- PROGRAM ...")


def run_command(instance: Instance, arguments: argparse.Namespace) -> int:
    """`python -m lab run`."""
    program = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if not program:
        raise LabError("name the program that is to run, for example: python -m lab run -- kubectl get nodes")
    return execute(instance, program, project(instance), arguments.machine)


def shell_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m lab shell`."""
    parser.add_argument("--machine", default=CONTROL, help=f"where (default: {CONTROL})")


def run_shell(instance: Instance, arguments: argparse.Namespace) -> int:
    """`python -m lab shell`."""
    return execute(instance, ["bash", "--norc"], project(instance), arguments.machine)


def _directory(instance: Instance) -> Path:
    if not instance.directory.is_dir():
        raise LabError(f"there is no lab {instance.name}: start it with `python -m lab --instance {instance.name} up`")
    directory = instance.directory / "pulumi"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def state_file(instance: Instance, stack: str) -> Path:
    """Where the lab keeps a stack's state."""
    name: str = _load(CHECKOUT / "Pulumi.yaml")["name"]
    return _directory(instance) / "state" / ".pulumi" / "stacks" / name / f"{stack}.json"


def _provide_plugins(directory: Path) -> None:
    """Links the plugins into PULUMI_HOME, under the version that the Python package of each asks for."""
    for program in (*map(tools.program, PLUGINS), *(STAND_IN_PROGRAMS / name for name in STAND_INS)):
        kind, name = program.name.removeprefix("pulumi-").split("-", 1)
        version = metadata.version(f"pulumi_{name}" if kind == "resource" else "pulumi")
        _link(directory / f"{kind}-{name}-v{version}" / program.name, program)


def _link(link: Path, program: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not (link.is_symlink() and link.readlink() == program):
        link.unlink(missing_ok=True)
        link.symlink_to(program)


def _trusted(instance: Instance, bundle: Path) -> Path:
    """The machine's CAs, and that of the lab's API server: a simulated cluster's DNS endpoint has, as in the cloud, a
    certificate that needs no CA in the kubeconfig."""
    system = Path(ssl.get_default_verify_paths().openssl_cafile)
    own = pki.cluster_authority(instance).certificate
    content = "".join(file.read_text() for file in (system, own) if file.exists())
    return files.write(bundle, content)


def _config(given: Mapping[str, Any], source: Path) -> dict[str, Any]:
    config: dict[str, Any] = given.get("config") or {}
    if hidden := sorted(key for key, value in config.items() if _has_secret(value)):
        raise LabError(f"{source}: {', '.join(hidden)} is encrypted for that environment, so the lab cannot read it")
    return config


def _has_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "secure" in value or any(map(_has_secret, value.values()))
    return isinstance(value, list) and any(map(_has_secret, value))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    return Template(value).substitute(values) if isinstance(value, str) else value


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise LabError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise LabError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise LabError(f"{path} must hold a mapping of keys to values")
    return content


@contextmanager
def _interrupts_left_to_the_program() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
