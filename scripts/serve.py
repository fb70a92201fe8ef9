"""Serve the built book on localhost and print the address."""

import functools
import http.server
import pathlib
import sys

SITE = pathlib.Path(__file__).parents[1] / "_build" / "html"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing for each request: the address stays the last line on the screen."""


def main(port):
    handler = functools.partial(Handler, directory=SITE)
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        sys.exit(f"serve: port {port} cannot be used ({error.strerror}). Name another: make serve PORT={port + 1}")
    with server:
        print(f"The book is at http://localhost:{server.server_port}/book/index.html (stop with Ctrl-C).", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    try:
        port = int(sys.argv[1])
        if not 0 <= port < 65535:
            raise ValueError
    except ValueError:
        sys.exit(f"serve: {sys.argv[1]!r} is no port. Name a number from 0 to 65534: make serve PORT=8001")
    main(port)
