"""The lab's Network Load Balancer: does to connections what the AWS Load Balancer Controller has an NLB do to them.

The agent, in the control machine, reads Services as the controller does; HAProxy and nftables in the machine `nlb` do
what it computes. lab/README.md says how far they are like the real ones.
"""

from pathlib import Path

from lab.instance import Instance


def directory(instance: Instance) -> Path:
    """What the load balancers are made of: HAProxy's configuration and sockets, names, certificates."""
    return instance.directory / "nlb"
