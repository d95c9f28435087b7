"""Files that look as if they held a secret: by their name, or by what stands in them."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase

from ..engine.fingerprint.sources import IS_SECRET

_MOST_BYTES = 1 << 20  # of a larger file only the name is looked at
_EXAMPLES = (".example", ".sample", ".template", ".dist")
_NAMES = (
    ".env", ".env.*", "*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "id_rsa", "id_dsa",
    "id_ecdsa", "id_ed25519", ".netrc", "_netrc", ".pgpass", ".pypirc", ".git-credentials", ".htpasswd", ".npmrc",
    ".dockercfg", ".dockerconfigjson", "kubeconfig", "*.kubeconfig", "credentials", "credentials.json",
    "credentials.ini", "credentials.toml", "credentials.y*ml", "*secret*.json", "*secret*.y*ml", "*secret*.toml",
    "*secret*.ini", "*secret*.txt", "*secret*.cfg", "service[-_]account*.json", "*.tfvars", "*.tfstate",
)  # fmt: skip
_FOLDERS = frozenset({".aws", ".azure", ".gcloud", ".gnupg", ".kube", ".ssh", "secrets", ".secrets"})
_SETTINGS = (".toml", ".yaml", ".yml", ".ini", ".cfg", ".conf", ".json", ".txt", ".properties")
# A password in a URL; not ${PASSWORD}, <password>, {password} or ***, which only stand for one.
_PASSWORD = re.compile(rb"://[^\s/:@\"'`]*:(?![$<{*%]|password@|pass@|\.\.\.|\xe2\x80\xa6)[^\s/@\"'`]+@")


def secret_in(path: str, file: str) -> str | None:
    """Why the project's file at `path` (relative to its root) looks like a secret; None where it does not.

    What is found is never repeated, only where.
    """
    *folders, name = path.lower().split("/")
    inside = next((each for each in folders if each in _FOLDERS), None)
    if inside is not None:
        return f"a folder '{inside}' usually holds secrets"
    if not name.endswith(_EXAMPLES) and any(fnmatchcase(name, each) for each in _NAMES):
        return "a file of that name usually holds secrets"
    return _written_in(name, file)


def _written_in(name: str, file: str) -> str | None:
    try:
        if os.path.getsize(file) > _MOST_BYTES:
            return None
        with open(file, "rb") as opened:
            content = opened.read()
    except OSError:
        return None  # copying it will say so
    if b"\0" in content[:8192]:
        return None
    found = IS_SECRET.search(content)
    if found is not None:
        return f"line {_line(content, found.start())} looks like a private key or an access token"
    if name.endswith(_SETTINGS) and (found := _PASSWORD.search(content)) is not None:
        return f"line {_line(content, found.start())} has a password in a URL"
    return None


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1
