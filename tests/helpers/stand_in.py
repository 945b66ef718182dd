"""A few lines of Python in the place of a vLLM server: they say who they are and what they were told."""

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
