"""The configuration of HAProxy as the load balancer before the nodes, which an operator puts there by hand."""

from __future__ import annotations

from string import Template

from settings.ingress import NodePortService

GLOBAL = Template("""\
# Gateway $gateway: HAProxy forwards the ports of $address to the nodes. Rendered by meshgate from
# meshgate:ingress.gateways.$gateway.service; what is changed here is lost.
#
# Connections are passed on as they are, TLS ends at the gateway. The gateway takes $seen for its client:
# the client's address is in this program's log alone, for nothing is sent before a connection (no PROXY header).

global
    user haproxy
    group haproxy
    maxconn 8000

defaults
    mode tcp
    log stdout format raw local0 info
    option tcplog
    balance leastconn
    # A node that does not answer is left for another one; nothing has been sent to it yet.
    timeout connect 3s
    retries 2
    option redispatch 1
    # The gateway ends HTTP connections that are idle for an hour; it is to be the first to do so.
    timeout client 61m
    timeout server 61m
    timeout client-fin 30s
    timeout server-fin 30s
    # Whoever has gone without a word is noticed, and not after an hour.
    option clitcpka
    option srvtcpka

# One place asks whether the gateway is ready behind a node's port; the other sections follow its answer.
backend $gateway
    timeout check 2s
    option httpchk
    http-check send meth GET uri /healthz/ready ver HTTP/1.1 hdr Host $gateway
    http-check expect status 200
    default-server check inter 2s fastinter 500ms fall 2 rise 2
$health_servers""")

LISTEN = Template("""
listen $gateway.$port
    bind $address:$number
$servers""")


def configuration(gateway: str, service: NodePortService) -> str:
    """HAProxy's configuration for a gateway's NodePort Service that has a balancer; version 2.4 or later reads it.

    Source: Anthos Service Mesh on-premises, manual load balancing. Reference: HAProxy, "Configuration Manual".
    """
    balancer, status = service.balancer, service.node_ports.status
    assert balancer is not None
    assert status is not None
    text = GLOBAL.substitute(
        gateway=gateway,
        address=balancer.address,
        seen="this machine" if service.external_traffic_policy == "Local" else "a node",
        health_servers="".join(f"    server {node} {node}:{status}\n" for node in balancer.nodes),
    )
    for name, (port, node_port) in service.balanced_ports.items():
        servers = "".join(f"    server {node} {node}:{node_port} track {gateway}/{node}\n" for node in balancer.nodes)
        text += LISTEN.substitute(gateway=gateway, port=name, address=balancer.address, number=port, servers=servers)
    return text
