"""A few lines of Python in the place of a vLLM server: they say who they are and what they were told."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

STAND_IN = """#!{python}
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({{"pid": os.getpid(), "words": sys.argv[1:], "environment": dict(os.environ)}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("loading the model", flush=True)
host, port = (sys.argv[sys.argv.index(word) + 1] for word in ("--host", "--port"))
http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def asked(url: str, within: float = 60) -> dict[str, Any]:
    """What the server says, once it answers. Raises OSError where it has not after `within` seconds."""
    until = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                found: dict[str, Any] = json.load(reply)
                return found
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
