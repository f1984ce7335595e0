"""JSON that can be passed on unchanged (wire contract, 2.2). Knows no request and no limit of size."""

from typing import Any, Final

import orjson

from kite_common.errors import Malformed

MAX_NESTING: Final = 100


def read_json(text: bytes) -> Any:
    """The value of a JSON text. Raises Malformed, in words for the caller, for anything that is none or could not be passed on unchanged.

    orjson refuses what is not UTF-8, lone surrogates, NaN, Infinity and numbers beyond a 64-bit float; nesting is checked here.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise Malformed("The body is not JSON that can be passed on unchanged.") from None
    # Nothing is nested deeper than it has brackets: nearly every body passes by this count alone.
    if text.count(b"{") + text.count(b"[") > MAX_NESTING and _is_nested_deeper(value, MAX_NESTING):
        raise Malformed(f"The body must not be nested deeper than {MAX_NESTING} levels.")
    return value


def _is_nested_deeper(value: Any, levels: int) -> bool:
    """Whether containers stand in each other more than `levels` deep; walks level by level, without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        level = [child for container in level for child in _children(container) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(container: Any) -> Any:
    return container.values() if isinstance(container, dict) else container
