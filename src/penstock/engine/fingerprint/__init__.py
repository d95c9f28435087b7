"""fingerprint: what a step's code means, with everything it reaches in the user's project.

Static: files are read and parsed, never imported. One file's analysis is a pure function of its bytes (`reading`), kept
by content in memory and on disk (`memo`); `project` says which file a name in an import stands for; `closure` follows
names from the step outward; `imports` says what the import of a file does to others; `distributions` says which
installed package an outside import belongs to; `live` does what can be done for functions that have no file; `sources`
is the files themselves.

May know core, graph, ports and `engine.environment`. Never runs, imports or changes user code.
"""

from .fingerprints import Fingerprints
from .sources import digest_of

__all__ = ["Fingerprints", "digest_of"]
