"""What commands print: text for people, or one JSON document a line on standard output. Decides nothing."""

import sys
from collections.abc import Mapping
from typing import Any

import orjson
from rich.console import Console, RenderableType
from rich.text import Text


class Output:
    """With `as_json` standard output carries JSON only, and what people read goes to standard error."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False)

    def result(self, document: Mapping[str, Any], *shown: RenderableType) -> None:
        """Print the result of a command: the document as one line of JSON, or what stands for it."""
        if self.as_json:
            sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
            sys.stdout.buffer.flush()
            return
        for one in shown:
            # A str may hold brackets of somebody else's: it is never read as markup, nor broken by the width of a pipe.
            self.console.print(Text(one) if isinstance(one, str) else one, soft_wrap=isinstance(one, str))


def printable(text: str) -> str:
    """`text` on one line and without control characters: what others wrote must not steer a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def usdc(atomic: int) -> str:
    """An amount in atomic units as people write it: 100 -> `0.0001 USDC`. Exact, without floats."""
    whole, rest = divmod(abs(atomic), 1_000_000)
    decimals = f"{rest:06d}".rstrip("0")
    return f"{'-' if atomic < 0 else ''}{whole:,}{'.' + decimals if decimals else ''} USDC"
