"""`seethink serve`: a server until it is stopped."""

from __future__ import annotations

import os

from seethink.core.console import say
from seethink.core.errors import UserError
from seethink.models.load import LoadedModel
from seethink.studies.serve.server import LOOPBACK, ModelServer


def run_server(loaded: LoadedModel, host: str, port: int, *, api_key_env: str | None, max_new_tokens: int) -> None:
    """Serve until Ctrl-C. Raises UserError where the address is taken, or open to others without a key."""
    key = _key(api_key_env)
    if key is None and host not in LOOPBACK:
        raise UserError(f"--host {host} lets others in: name the variable of a key with --api-key-env")
    try:
        server = ModelServer((host, port), loaded, max_new_tokens=max_new_tokens, key=key)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror}; choose another port") from None
    with server:
        say(f"{server.model} at http://{host}:{server.server_address[1]}/v1; Ctrl-C stops it")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(f"--api-key-env names {variable}, which is not set: export it")
    return key
