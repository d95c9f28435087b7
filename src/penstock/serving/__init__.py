"""serving: a model behind HTTP, which follows an alias and switches version without a failed request.

An adapter: may know models, ports, graph and core; a registry reaches it through `ports.models.ModelRegistry`. Requests
are parsed into typed records or refused with an error that names the row and the column. Binds to loopback unless it
has a token. Never serves a half-loaded model, and never stops serving because the registry is away.
"""

from .app import create_app
from .server import serve
from .source import ModelSource, RegistrySource

__all__ = ["ModelSource", "RegistrySource", "create_app", "serve"]
