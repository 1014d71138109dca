"""Keys as they are handed about: shown masked, and plain only where somebody says `reveal`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from typing import Any, NoReturn

from aistrale.exceptions import ConfigurationError

SHOWN_FROM = 20
"""How long a text must be for its ends to be shown: of a shorter one they would tell too much."""


class Secret:
    """A text that prints as `sk-…W4x9`, or as `…` if it is short; `reveal` gives it plain.

    Equal to a Secret of the same text. It can be copied, but neither pickled nor turned into JSON.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str | Secret) -> None:
        self._text: str = text._text if isinstance(text, Secret) else text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        long = isinstance(self._text, str) and len(self._text) >= SHOWN_FROM
        return f"{self._text[:3]}…{self._text[-4:]}" if long else "…"

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled: pass where it can be found, or reveal() it knowingly")


@dataclass(frozen=True, slots=True)
class Token:
    """A provider's key as it is kept in the books.

    masked: how it is shown. is_default: it is the one its provider is called with. Times are in UTC;
    rotated and last_used are None if it never was. secret: the key itself, None in a list.
    """

    provider: str
    label: str
    masked: str
    is_default: bool
    created: datetime
    rotated: datetime | None = None
    last_used: datetime | None = None
    secret: Secret | None = field(default=None, repr=False)

    def reveal(self) -> str:
        """The key itself, plain. Raises ConfigurationError for a token out of a list, which holds none."""
        if self.secret is None:
            raise ConfigurationError(
                "This token was listed without its key: "
                f"aistrale.tokens.get({self.provider!r}, {self.label!r}).reveal() gives it"
            )
        return self.secret.reveal()
