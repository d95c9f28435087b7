"""The page at /: what is served, and how to ask it, for a person with a browser."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem; color: #1c2733 }
h1 { font-size: 1.5rem; margin-bottom: 0 } p.sub { color: #5b6b7b; margin-top: .2rem }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .2rem .6rem .2rem 0 }
th { color: #5b6b7b; font-weight: 500 } pre { background: #f3f6f9; padding: 1rem; overflow: auto; border-radius: .4rem }
@media (prefers-color-scheme: dark) { body { background: #11171d; color: #dde5ec } pre { background: #1b242d } }
"""


def page(model: dict[str, Any], base_url: str) -> str:
    """HTML for `described(switch)`; nothing is fetched from elsewhere."""
    alias = f" ({escape(model['alias'])})" if model["alias"] else ""
    facts = {
        "since": model["since"],
        "run": model["run_id"] or "unknown",
        "metrics": ", ".join(f"{name} {value:.4g}" for name, value in model["metrics"].items()) or "none recorded",
        "health": "/health/live, /health/ready",
        "details": "/model",
    }
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    columns = "".join(
        f"<tr><td>{escape(each['name'])}</td>"
        f"<td>{escape(each['type'])}{' or null' if each['optional'] else ''}</td></tr>"
        for each in model["columns"]
    )
    name = escape(model["name"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} version {escape(model["version"])}</title>
<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>
<body><h1>{name}</h1><p class="sub">version {escape(model["version"])}{alias}, served by penstock</p>
<table>{rows}</table>
<h2>Ask it</h2><pre>{escape(_curl(model, base_url))}</pre>
<h2>Columns</h2><table><tr><th>name</th><th>type</th></tr>{columns}</table>
</body></html>"""


def _curl(model: dict[str, Any], base_url: str) -> str:
    row = model["example"] or {each["name"]: 0 for each in model["columns"]}
    body = json.dumps({"rows": [row]}, ensure_ascii=False)
    return f"curl {base_url}/predict -H 'content-type: application/json' \\\n  -d {shlex.quote(body)}"
