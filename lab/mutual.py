"""A web server of the lab's internet that knows its clients by their certificates.

On port 443 it takes a connection only with a certificate of the lab internet's client CA, and says whose it was. On
port 80 there is nobody to name. Runs in the machine `internet`:

    python -m lab.mutual --address ADDRESS --certificate FILE --key FILE --client-authority FILE
"""

import argparse
import json
import logging

from lab import web


def answer(request: web.Request) -> web.Answer:
    """Who asked, as JSON: {"client": {"commonName": ...}}, or null without a certificate."""
    body = json.dumps({"client": request.certificate}) + "\n"
    name = (request.certificate or {}).get("commonName", "")
    return web.Answer(200, body, "application/json", caller=name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.mutual", description=__doc__.splitlines()[0])
    for name in ("address", "certificate", "key", "client-authority"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tls = web.server_tls(arguments.certificate, arguments.key, arguments.client_authority)
    web.serve([web.Listener(arguments.address, 443, answer, tls), web.Listener(arguments.address, 80, answer)])


if __name__ == "__main__":
    main()
