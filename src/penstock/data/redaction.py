"""URLs as they may be shown: without passwords, keys and signatures."""

from __future__ import annotations

import re
from urllib.parse import unquote

_USERINFO = re.compile(r"(?P<head>[A-Za-z][\w+.-]*://[^\s/?#]*?:)(?P<secret>[^\s/?#]+)(?P<tail>@)")
_PARAMETER = re.compile(
    r"(?P<head>[?&;][^=&\s]*(?:pass|pwd|secret|token|signature|sig|credential|apikey|api_key|api-key|accesskey|access_key"
    r"|key-id|keyid|auth)[^=&\s]*=)(?P<secret>[^&\s#]+)",
    re.IGNORECASE,
)
MASK = "***"


def redacted(url: str) -> str:
    """The URL with every secret replaced by `***`.

    >>> redacted("postgresql://ml:hunter2@db:5432/shop?sslmode=require")
    'postgresql://ml:***@db:5432/shop?sslmode=require'
    >>> redacted("https://files.example/a.csv?X-Amz-Signature=abc&part=1")
    'https://files.example/a.csv?X-Amz-Signature=***&part=1'
    """
    return _PARAMETER.sub(rf"\g<head>{MASK}", _USERINFO.sub(rf"\g<head>{MASK}\g<tail>", url))


def scrubbed(text: str, url: str) -> str:
    """Text from another library, with the URL and its secrets taken out wherever they appear."""
    text = text.replace(url, redacted(url))
    for pattern in (_USERINFO, _PARAMETER):
        for match in pattern.finditer(url):
            for secret in {match["secret"], unquote(match["secret"])}:
                text = text.replace(secret, MASK)
    return redacted(text)


def has_secret(url: str) -> bool:
    """Whether showing the URL as it is would give something away.

    >>> has_secret("https://files.example/a.csv"), has_secret("https://me:pw@files.example/a.csv")
    (False, True)
    """
    return redacted(url) != url
