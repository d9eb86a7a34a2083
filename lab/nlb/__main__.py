"""`python -m lab.nlb`: the agent, in the machine `control`."""

import argparse
import asyncio
import logging

from lightkube import AsyncClient, KubeConfig

from lab.instance import Instance
from lab.nlb.controller import Controller
from lab.nlb.data_path import DataPath
from lab.nlb.kube import Cluster


async def run(instance: Instance, kubeconfig: str, status_only: bool) -> None:
    """Work for ever."""
    cluster = Cluster(AsyncClient(KubeConfig.from_file(kubeconfig)))
    await Controller(instance, cluster, None if status_only else DataPath(instance)).run()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.nlb", description=__doc__)
    parser.add_argument("--instance", required=True, help="the lab's name")
    parser.add_argument("--kubeconfig", required=True)
    parser.add_argument("--status-only", action="store_true", help="give names and finalizers, carry nothing")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    asyncio.run(run(Instance(arguments.instance), arguments.kubeconfig, arguments.status_only))


if __name__ == "__main__":
    main()
