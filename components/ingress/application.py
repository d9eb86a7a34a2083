"""An application that answers HTTP: something to have behind a gateway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
import pulumi_kubernetes as kubernetes

from settings.model import Resources

USER = 1000
"""Any user but root will do; the images name none."""

DRAIN_SECONDS = 5

RESOURCES = Resources(cpu="10m", memory="32Mi")
"""What a small server asks for."""

PRIVILEGED_PORTS = 1024
"""Ports below this one are root's alone, unless the pod's own network says otherwise."""


def application_pod(
    app: str,
    image: str,
    *,
    account: pulumi.Input[str],
    port: int,
    env: Mapping[str, pulumi.Input[str]] | None = None,
    writes: Sequence[str] = (),
    files: Mapping[str, pulumi.Input[str]] | None = None,
    user: int = USER,
    resources: Resources = RESOURCES,
) -> kubernetes.core.v1.PodSpecArgs:
    """A pod with one container, `app`, that listens on `port` and runs without any privilege.

    `writes` are directories that it keeps files in, `files` ConfigMaps' names by the directory that they are in.
    """
    volumes = {f"writes-{number}": path for number, path in enumerate(writes)}
    container = kubernetes.core.v1.ContainerArgs(
        name=app,
        image=image,
        ports=[kubernetes.core.v1.ContainerPortArgs(name="http", container_port=port)],
        env=[
            kubernetes.core.v1.EnvVarArgs(
                name="KUBERNETES_NAMESPACE",
                value_from=kubernetes.core.v1.EnvVarSourceArgs(
                    # With its default said, so that a `pulumi up` after one that was killed finds it as it is.
                    field_ref=kubernetes.core.v1.ObjectFieldSelectorArgs(
                        api_version="v1", field_path="metadata.namespace"
                    )
                ),
            ),
            *(kubernetes.core.v1.EnvVarArgs(name=key, value=value) for key, value in (env or {}).items()),
        ],
        readiness_probe=kubernetes.core.v1.ProbeArgs(
            tcp_socket=kubernetes.core.v1.TCPSocketActionArgs(port="http"), period_seconds=2
        ),
        resources=kubernetes.core.v1.ResourceRequirementsArgs(
            requests={"cpu": resources.cpu, "memory": resources.memory}
        ),
        # It ends when no proxy sends it requests any more: they learn of that a moment after it is to end.
        lifecycle=kubernetes.core.v1.LifecycleArgs(
            pre_stop=kubernetes.core.v1.LifecycleHandlerArgs(
                sleep=kubernetes.core.v1.SleepActionArgs(seconds=DRAIN_SECONDS)
            )
        ),
        security_context=kubernetes.core.v1.SecurityContextArgs(
            run_as_non_root=True,
            run_as_user=user,
            allow_privilege_escalation=False,
            capabilities=kubernetes.core.v1.CapabilitiesArgs(drop=["ALL"]),
            seccomp_profile=kubernetes.core.v1.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        volume_mounts=[
            *(kubernetes.core.v1.VolumeMountArgs(name=volume, mount_path=path) for volume, path in volumes.items()),
            *(
                kubernetes.core.v1.VolumeMountArgs(name=f"files-{number}", mount_path=path, read_only=True)
                for number, path in enumerate(files or {})
            ),
        ]
        or None,
    )
    return kubernetes.core.v1.PodSpecArgs(
        service_account_name=account,
        containers=[container],
        security_context=kubernetes.core.v1.PodSecurityContextArgs(
            sysctls=[kubernetes.core.v1.SysctlArgs(name="net.ipv4.ip_unprivileged_port_start", value="0")]
        )
        if port < PRIVILEGED_PORTS
        else None,
        volumes=[
            *(
                kubernetes.core.v1.VolumeArgs(name=volume, empty_dir=kubernetes.core.v1.EmptyDirVolumeSourceArgs())
                for volume in volumes
            ),
            *(
                kubernetes.core.v1.VolumeArgs(
                    name=f"files-{number}", config_map=kubernetes.core.v1.ConfigMapVolumeSourceArgs(name=name)
                )
                for number, name in enumerate((files or {}).values())
            ),
        ]
        or None,
    )


def http_application(
    name: str,
    app: str,
    image: str,
    *,
    namespace: pulumi.Input[str],
    port: int,
    env: Mapping[str, pulumi.Input[str]] | None = None,
    writes: Sequence[str] = (),
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
    replicas: int | None = None,
    opts: pulumi.ResourceOptions,
) -> None:
    """Make the ServiceAccount, Deployment and Service `app`, which answers on port 80; `port` is the container's.

    It runs without any privilege. `writes` are directories that it keeps files in, `annotations` are its pods'.
    Resources are named <name>-<app>...
    """
    metadata = kubernetes.meta.v1.ObjectMetaArgs(name=app, namespace=namespace, labels={"app": app})
    account = kubernetes.core.v1.ServiceAccount(f"{name}-{app}-account", metadata=metadata, opts=opts)
    kubernetes.apps.v1.Deployment(
        f"{name}-{app}",
        metadata=metadata,
        spec=kubernetes.apps.v1.DeploymentSpecArgs(
            replicas=replicas,
            selector=kubernetes.meta.v1.LabelSelectorArgs(match_labels={"app": app}),
            template=kubernetes.core.v1.PodTemplateSpecArgs(
                metadata=kubernetes.meta.v1.ObjectMetaArgs(labels={"app": app}, annotations=annotations),
                spec=application_pod(app, image, account=account.metadata.name, port=port, env=env, writes=writes),
            ),
        ),
        opts=opts,
    )
    kubernetes.core.v1.Service(
        f"{name}-{app}-service",
        metadata=metadata,
        spec=kubernetes.core.v1.ServiceSpecArgs(
            selector={"app": app},
            ports=[kubernetes.core.v1.ServicePortArgs(name="http", port=80, target_port="http")],
        ),
        opts=opts,
    )
