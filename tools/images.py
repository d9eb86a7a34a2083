"""The lab's container images, under their public names, so that manifests need no change for the lab."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tools import storage
from tools.envoy import ENVOY, ENVOY_VERSION
from tools.families import (
    APPS,
    HTTPBIN,
    ISTIO,
    ISTIO_VERSION,
    JAEGER,
    JAEGER_RELEASE,
    PROMETHEUS,
    PROMETHEUS_RELEASE,
    RATELIMIT,
)
from tools.part import Part
from tools.rootfs import ROOTFS, SERVERS
from tools.storage import SEARCH_PATH, Copied, Image, Storage, Written
from tools.workshop import Workshop

PILOT_AGENT = "/usr/local/bin/pilot-agent"
PILOT_DISCOVERY = "/usr/local/bin/pilot-discovery"
CURL_ENTRYPOINT = """\
#!/bin/sh
# As in the public image: options alone are curl's, anything else is a command.
case "$1" in
-*) exec curl "$@" ;;
*) exec "$@" ;;
esac
"""
ENVOY_ENTRYPOINT = """\
#!/bin/sh
# As in the public image: options alone are envoy's, and root becomes the user envoy unless ENVOY_UID is 0.
case "$1" in
-*) set -- envoy "$@" ;;
esac
if [ "$(id -u)" = 0 ] && [ "${ENVOY_UID:-101}" != 0 ]; then
    exec setpriv --reuid "${ENVOY_UID:-101}" --regid "${ENVOY_GID:-101}" --clear-groups "$@"
fi
exec "$@"
"""
NGINX_CONFIGURATION = """\
# As in the public image, whose paths these are.
worker_processes auto;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events {}
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
                    '"$http_user_agent" "$http_x_forwarded_for"';
    access_log /dev/stdout main;
    client_body_temp_path /var/cache/nginx/client_temp;
    proxy_temp_path /var/cache/nginx/proxy_temp;
    fastcgi_temp_path /var/cache/nginx/fastcgi_temp;
    uwsgi_temp_path /var/cache/nginx/uwsgi_temp;
    scgi_temp_path /var/cache/nginx/scgi_temp;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
"""
NGINX_SITE = """\
server {
    listen 80;
    location / {
        root /usr/share/nginx/html;
        index index.html;
    }
}
"""


def bookinfo(service: str, version: str = "v1", user: int = 1000, **environment: str) -> Image:
    """One of Bookinfo's images; as the public ones, those of a service are one program with another environment."""
    env = [SEARCH_PATH, f"SERVICE_VERSION={version}", *(f"{name}={value}" for name, value in environment.items())]
    return Image(
        f"docker.io/istio/examples-bookinfo-{service}-{version}:1.20.3",
        {f"/{service}": Copied(APPS, service)},
        {"Env": env, "User": str(user), "Cmd": [f"/{service}"], "ExposedPorts": {"9080/tcp": {}}},
    )


# Users, entrypoints and paths are those of the public images (Istio: pilot/docker/Dockerfile.* in its module).
IMAGES = (
    Image(
        "registry.k8s.io/pause:3.10",
        {"/pause": Copied(APPS, "pause")},
        {"User": "65535:65535", "Entrypoint": ["/pause"]},
    ),
    Image(
        f"registry.istio.io/release/pilot:{ISTIO_VERSION}",
        {PILOT_DISCOVERY: Copied(ISTIO, "pilot-discovery")},
        {"User": "1337:1337", "Entrypoint": [PILOT_DISCOVERY]},
        base=ROOTFS,
    ),
    Image(
        f"registry.istio.io/release/proxyv2:{ISTIO_VERSION}",
        {
            PILOT_AGENT: Copied(ISTIO, "pilot-agent"),
            "/usr/local/bin/envoy": Copied(ENVOY, "envoy"),
            "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json": Copied(ISTIO, "envoy_bootstrap.json", 0o644),
        },
        {"WorkingDir": "/", "Entrypoint": [PILOT_AGENT]},
        base=ROOTFS,
    ),
    Image(
        "docker.io/istioinaction/webapp:latest",
        {"/webapp": Copied(APPS, "webapp")},
        {"User": "65532:65532", "Entrypoint": ["/webapp"], "ExposedPorts": {"8080/tcp": {}}},
    ),
    Image(
        "docker.io/istioinaction/catalog:latest",
        {"/catalog": Copied(APPS, "catalog")},
        {"User": "65532:65532", "Entrypoint": ["/catalog"], "ExposedPorts": {"3000/tcp": {}}},
    ),
    Image(
        "docker.io/curlimages/curl:8.16.0",
        {"/entrypoint.sh": Written(CURL_ENTRYPOINT)},
        {"User": "100:101", "Entrypoint": ["/entrypoint.sh"], "Cmd": ["curl"]},
        base=ROOTFS,
    ),
    Image(
        "docker.io/mccutchen/go-httpbin:2.26.0",
        {"/bin/go-httpbin": Copied(HTTPBIN, "go-httpbin")},
        {"User": "65532:65532", "Cmd": ["/bin/go-httpbin"], "ExposedPorts": {"8080/tcp": {}}},
    ),
    Image(
        "docker.io/library/nginx:1.29",
        {
            "/etc/nginx/nginx.conf": Written(NGINX_CONFIGURATION, 0o644),
            "/etc/nginx/conf.d/default.conf": Written(NGINX_SITE, 0o644),
            "/var/cache/nginx/.keep": Written("", 0o644),
        },
        {"Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT"},
        base=SERVERS,
    ),
    Image(
        "docker.io/ubuntu/squid:6.6-24.04_edge",
        {},
        {"Cmd": ["squid", "-f", "/etc/squid/squid.conf", "-NYC"], "ExposedPorts": {"3128/tcp": {}}},
        base=SERVERS,
    ),
    Image(
        "docker.io/youngwjung/flask-echo:latest",
        {"/echo": Copied(APPS, "echo")},
        {"User": "65532:65532", "Entrypoint": ["/echo"], "ExposedPorts": {"80/tcp": {}}},
    ),
    bookinfo("productpage", FLOOD_FACTOR="0"),
    bookinfo("details", ENABLE_EXTERNAL_BOOK_SERVICE="false"),
    bookinfo("ratings"),
    bookinfo("reviews", "v1", 1001, ENABLE_RATINGS="false", STAR_COLOR="black"),
    bookinfo("reviews", "v2", 1001, ENABLE_RATINGS="true", STAR_COLOR="black"),
    bookinfo("reviews", "v3", 1001, ENABLE_RATINGS="true", STAR_COLOR="red"),
    Image(
        f"docker.io/envoyproxy/envoy:v{ENVOY_VERSION}",
        {"/usr/local/bin/envoy": Copied(ENVOY, "envoy"), "/docker-entrypoint.sh": Written(ENVOY_ENTRYPOINT)},
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["envoy", "-c", "/etc/envoy/envoy.yaml"],
            "ExposedPorts": {"10000/tcp": {}},
        },
        base=ROOTFS,
    ),
    # The public image's tags are the first digits of commits.
    Image(
        "docker.io/envoyproxy/ratelimit:3fb70258",
        {"/bin/ratelimit": Copied(RATELIMIT, "service_cmd")},
        {"User": "65532", "Cmd": ["/bin/ratelimit"]},
    ),
    Image(
        f"docker.io/jaegertracing/jaeger:{JAEGER_RELEASE}",
        {"/cmd/jaeger/jaeger-linux": Copied(JAEGER, "jaeger")},
        {
            "User": "10001",
            "Entrypoint": ["/cmd/jaeger/jaeger-linux"],
            "ExposedPorts": {"4317/tcp": {}, "16686/tcp": {}},
        },
    ),
    Image(
        f"docker.io/prom/prometheus:v{PROMETHEUS_RELEASE}",
        {"/bin/prometheus": Copied(PROMETHEUS, "prometheus"), "/prometheus/.keep": Written("", 0o644)},
        {
            "Env": [SEARCH_PATH],
            "User": "65534:65534",
            "WorkingDir": "/prometheus",
            "Entrypoint": ["/bin/prometheus"],
            "Cmd": ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"],
            "ExposedPorts": {"9090/tcp": {}},
        },
    ),
    Image(
        "docker.io/library/redis:7.0.15",
        {"/data/.keep": Written("", 0o644)},
        {"WorkingDir": "/data", "Cmd": ["redis-server"], "ExposedPorts": {"6379/tcp": {}}},
        base=SERVERS,
    ),
)


@dataclass(frozen=True)
class Registry(Part):
    @property
    def shelf(self) -> str:
        return "registry"

    @property
    def needs(self) -> tuple[Part, ...]:
        return tuple(dict.fromkeys(part for image in IMAGES for part in image.needs))

    def inputs(self) -> Iterable[bytes]:
        # The definitions above and how they are written: all of it is in these two files.
        yield Path(__file__).read_bytes()
        yield Path(storage.__file__).read_bytes()

    def make(self, result: Path, workshop: Workshop) -> None:
        registry = Storage(result / "docker" / "registry" / "v2", workshop.scratch)
        for image in IMAGES:
            workshop.tick(image.name)
            registry.add(image)


REGISTRY = Registry("images")
