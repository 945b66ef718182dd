"""The common parts of seethink's pages: templates, style sheet, and content security policy.

A page requests nothing from the network. Text is escaped by the templates; the policy allows the page's own style
sheet and script by their hashes and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from seethink.core.redact import visible
from seethink.report.scores import percent

TEMPLATES = files("seethink.report") / "templates"


def environment() -> Environment:
    """Templates by their file name; `figure.html.j2` has the macro that shows a `Figure`."""
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    environment.filters |= {"percent": percent, "count": _count, "short": _short, "points": _points}
    return environment


def asset(*names: str) -> str:
    """The text of template files, one after another: `asset("report.css", "charts.css")` is a style sheet."""
    texts = ((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return "\n".join(text.replace("\r\n", "\n") for text in texts)


def policy(style: str, script: str = "") -> str:
    """The Content-Security-Policy of a page with these texts inside its style and its script element."""
    scripts = f"'{_hash(script)}'" if script else "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def embed(value: Any) -> str:
    """JSON that is safe inside a script element: ASCII only, and no `<`, `>` or `&`."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def _short(value: float | None) -> str:
    """Three significant digits: `0.0123`, `1.2e-05`, `0`."""
    return "–" if value is None else f"{value:.3g}"


def _points(value: float) -> str:
    """A difference of shares in percentage points: `+5.9`, `−9.4`."""
    return f"{100 * value:+.1f}".replace("-", "−")
