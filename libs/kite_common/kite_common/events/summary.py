"""`kitesummary`: one line that says what happened, for people (wire contract, 9.4). Knows no event."""

from typing import Final

LIMIT: Final = 200
# C0 and C1 controls, DEL, and the line and paragraph separators: a summary is printed on one line.
_CONTROLS: Final = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029], " ")


def one_line(text: str) -> str:
    """`text` without controls and line breaks, cut to 200 characters with `…` where it is longer; characters, never bytes."""
    if not text.isprintable():  # controls and separators are not; asking is fifty times cheaper than replacing
        text = text.translate(_CONTROLS)
    return text if len(text) <= LIMIT else text[: LIMIT - 1] + "…"
