"""Hypothesis strategies for the values services exchange. No assertions.

`facts(UsageRecorded)` follows the payload's own declaration (types, bounds, optional fields), so a new field is drawn at once.
"""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import annotated_types
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kite_common import crypto, ids
from kite_common.events.agent_message import AgentMessage
from kite_common.events.codec import Record, encode
from kite_common.events.fact import Fact
from kite_common.events.registry import LATEST
from kite_common.ids import EventId, TeamId
from kite_common.money import UNLIMITED

FactT = TypeVar("FactT", bound=BaseModel)

# Any text that UTF-8 can hold: what can stand in JSON.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
amounts = st.integers(0, UNLIMITED)
unix_ms = st.integers(0, (1 << 48) - 1)
random_bits = st.integers(0, (1 << 74) - 1)
cipher_keys = st.binary(min_size=32, max_size=32)
nonces = st.binary(min_size=12, max_size=12)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-UNLIMITED, UNLIMITED) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def team_ids() -> st.SearchStrategy[TeamId]:
    """Team ids of every allowed form."""
    return st.from_regex(r"[A-Za-z0-9][A-Za-z0-9:_-]{0,127}", fullmatch=True).map(TeamId)


def event_ids() -> st.SearchStrategy[EventId]:
    """Event ids of any time."""
    return st.builds(ids.uuid7, unix_ms, random_bits)


def agent_messages() -> st.SearchStrategy[AgentMessage]:
    """Messages with any text in every field."""
    names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
    return st.builds(AgentMessage, names, names, texts, st.none() | texts, st.none() | texts)


def facts(model: type[FactT]) -> st.SearchStrategy[FactT]:
    """Payloads of one class, every field within its declared bounds; `v` is the class's version."""
    fields = {name: _of_field(field) for name, field in model.model_fields.items() if name != "v"}
    return st.fixed_dictionaries(fields).map(lambda values: model(**values))


def any_fact() -> st.SearchStrategy[Fact]:
    """Payloads of any kind in the registry."""
    return st.sampled_from(sorted(LATEST)).flatmap(lambda kind: facts(LATEST[kind]))


def records() -> st.SearchStrategy[Record]:
    """Records of any kind, as they stand in the log."""
    return any_fact().map(encode)


def webhook_secrets() -> st.SearchStrategy[str]:
    """Signing secrets that PUT /webhook-config takes, of both forms."""
    plain = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=256)
    return plain.filter(lambda text: not text.startswith("whsec_")) | st.binary(min_size=24, max_size=64).map(crypto.new_webhook_secret)


def _of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _of_type(field.annotation, field.metadata)


def _of_type(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        info = [constraint for one in arguments[1:] for constraint in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return _of_type(arguments[0], [*metadata, *info])
    if origin in (Union, types.UnionType):
        return st.one_of([_of_type(argument, metadata) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return _of_tuple(arguments)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return facts(annotation)
    if isinstance(annotation, type) and issubclass(annotation, tuple):
        return st.tuples(*(_of_type(hint, []) for hint in get_type_hints(annotation).values())).map(lambda values: annotation(*values))
    return _PLAIN[annotation] if annotation is not int else _integers(metadata)


def _of_tuple(arguments: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if arguments[-1] is Ellipsis:
        return st.lists(_of_type(arguments[0], []), max_size=3).map(tuple)
    return st.tuples(*(_of_type(argument, []) for argument in arguments))


def _integers(metadata: list[Any]) -> st.SearchStrategy[int]:
    """Integers within the bounds; without bounds those that JSON readers keep exact."""
    low, high = -UNLIMITED, UNLIMITED
    for bound in metadata:
        if isinstance(bound, annotated_types.Ge):
            low = int(bound.ge)  # type: ignore[call-overload]  # our bounds are integers
        if isinstance(bound, annotated_types.Le):
            high = int(bound.le)  # type: ignore[call-overload]
        if isinstance(bound, annotated_types.Lt):
            high = int(bound.lt) - 1  # type: ignore[call-overload]
    return st.integers(low, high)


_PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {str: texts, bool: st.booleans(), type(None): st.none()}
