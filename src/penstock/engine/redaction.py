"""Secrets do not leave the place where a step runs: they are taken out of text, also where it comes in pieces."""

from __future__ import annotations

from collections.abc import Iterable

MASK = "•••"
_SHORTEST = 3  # a shorter one would mask half of every text, and is no secret


class Redactor:
    """Replaces secrets, in the forms that they take in URLs and in printed values too. Give it each secret by `learn`.

    >>> keep = Redactor(["s3cret"])
    >>> keep.text("token=s3cret"), keep.feed("my s3c") + keep.feed("ret!") + keep.rest()
    ('token=•••', 'my •••!')
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: list[str] = []
        self._held = ""
        for secret in secrets:
            self.learn(secret)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def learn(self, secret: str) -> None:
        if len(secret) < _SHORTEST:
            return
        import urllib.parse

        forms = {
            secret,
            urllib.parse.quote(secret, safe=""),
            urllib.parse.quote_plus(secret),
            urllib.parse.quote(secret),
        }
        forms |= {repr(secret)[1:-1], *(line for line in secret.splitlines() if len(line) >= _SHORTEST)}
        self._forms[:] = sorted({*self._forms, *forms}, key=len, reverse=True)

    def twin(self) -> Redactor:
        """One for another stream: it knows the same secrets, also those learned later."""
        made = Redactor()
        made._forms = self._forms
        return made

    def text(self, text: str) -> str:
        """A whole text."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text

    def holds(self, content: bytes) -> bool:
        """Whether bytes contain a secret."""
        return any(form.encode(errors="replace") in content for form in self._forms)

    def feed(self, piece: str) -> str:
        """The part of a stream that can be shown already; what may be the beginning of a secret is held back."""
        if not self._forms:
            return piece
        text = self.text(self._held + piece)
        at = next(
            (at for at in range(max(0, len(text) - len(self._forms[0])), len(text)) if self._opens(text[at:])),
            len(text),
        )
        self._held = text[at:]
        return text[:at]

    def rest(self) -> str:
        """What is still held back at the end of the stream."""
        held, self._held = self._held, ""
        return held

    def _opens(self, tail: str) -> bool:
        return any(form.startswith(tail) for form in self._forms)


def storable(text: str) -> str:
    """Text that any store and any terminal takes: lone surrogates, as in undecodable file names, are replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text
