"""conformance: the same pipelines on every engine, held against a calm run on the local one.

`cases/` are users' files, one idea each; `catalogue` says what is done with them and what must come of it. A driver
(`driving`) runs them somewhere; `observing` reads what happened from the run log and nothing else; `comparing` says
what differs; `campaign` does it for many; `page` writes docs/backends.md. Knows no engine by name but the local one.
"""

from .case import Act, Case
from .catalogue import CASES, chosen

__all__ = ["CASES", "Act", "Case", "chosen"]
