"""A web site of the lab's internet, for those who ask for it by its name.

On port 443 the host answers with a page that names it, on port 80 with a redirect to that. A request for another host
gets 421 (Misdirected Request), as at a provider of many sites: who forwards requests must write its Host header, too.
Runs in the machine `internet`:

    python -m lab.site --host HOST --address ADDRESS --certificate FILE --key FILE
"""

import argparse
import html
import logging

from lab import web


def answering(host: str) -> web.Answering:
    """What the site of this host answers."""

    def answer(request: web.Request) -> web.Answer:
        if request.headers.get("host", "").removesuffix(":443") != host:
            return web.Answer(421, f"this is {host}\n")
        if not request.secure:
            return web.Answer(301, headers={"Location": f"https://{host}{request.path}"})
        page = f"<!DOCTYPE html>\n<title>{host}</title>\n<p>This is {host}, {html.escape(request.path)}</p>\n"
        return web.Answer(200, page, "text/html; charset=utf-8")

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.site", description=__doc__.splitlines()[0])
    for name in ("host", "address", "certificate", "key"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    answer = answering(arguments.host)
    tls = web.server_tls(arguments.certificate, arguments.key)
    web.serve([web.Listener(arguments.address, 443, answer, tls), web.Listener(arguments.address, 80, answer)])


if __name__ == "__main__":
    main()
