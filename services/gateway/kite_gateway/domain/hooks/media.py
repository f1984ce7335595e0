"""Media types as far as the rest asks: which one a Content-Type names, and whether it is JSON. Parameters never matter."""

import re
from typing import Final

_JSON: Final = re.compile(r"application/json|[^/\s]+/[^/\s]+\+json")


def media_type(content_type: str) -> str:
    """The type alone, in lower case; empty if there is none."""
    return content_type.partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Whether a media type says that the text is JSON (RFC 6839, section 3.1)."""
    return _JSON.fullmatch(media) is not None
