"""images: the container image that a project's steps run in, as a readable folder and then as an image.

An adapter: may know engine, authoring, ports, graph and core; its siblings are strangers. It reads the project and the
running interpreter, writes into one folder of its own, and calls docker, podman or buildah. It never copies what looks
like a secret, never installs a package that no line of the folder names, and never leaves half an image under a tag.
"""

from .builders import BUILDERS, Builder, find_builder
from .checking import Expected, check_image
from .contents import Contents, contents_of
from .declared import Declared, find_declared
from .dockerfile import Recipe
from .folder import write_folder
from .locking import Locked, Needs, locked
from .reached import Reached, import_folders, reached

__all__ = [
    "BUILDERS",
    "Builder",
    "Contents",
    "Declared",
    "Expected",
    "Locked",
    "Needs",
    "Reached",
    "Recipe",
    "check_image",
    "contents_of",
    "find_builder",
    "find_declared",
    "import_folders",
    "locked",
    "reached",
    "write_folder",
]
