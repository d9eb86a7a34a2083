"""`python -m lab.google`: serves in the machine `google`."""

import argparse
import logging
import secrets
from functools import partial

from lightkube import Client, KubeConfig

from lab import web
from lab.google import iam, metadata, storage
from lab.google.workloads import Workloads
from lab.topology import METADATA_ADDRESS, PRIVATE_APIS, RESTRICTED_APIS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.google", description=__doc__)
    for name in ("kubeconfig", "certificate", "key"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    project = iam.load()
    tokens = iam.Tokens(secrets.token_bytes(32))
    workloads = Workloads(Client(KubeConfig.from_file(arguments.kubeconfig)))
    about = partial(metadata.answer, project, tokens, workloads.find)
    stored = partial(storage.answer, project, tokens)
    tls = web.server_tls(arguments.certificate, arguments.key)
    apis = [str(address) for address in (*RESTRICTED_APIS, *PRIVATE_APIS)]
    web.serve(
        [
            web.Listener(str(METADATA_ADDRESS), 80, about),
            *(web.Listener(address, 443, stored, tls) for address in apis),
            *(web.Listener(address, 80, stored) for address in apis),
        ]
    )


if __name__ == "__main__":
    main()
