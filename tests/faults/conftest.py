"""What faults need: a project with real processes, and a PostgreSQL server that may be restarted under a run."""

from ..conformance.conftest import postgres_url as postgres_url
from ..e2e.conftest import lab as lab
