"""What in kite.accounts is an account."""

from kite_cli.admin.keys import is_account
from kite_common.stream.input import Input
from kite_common.stream.state import MARKER_KEY, Marker


def test_a_snapshot_is_one_and_a_marker_or_a_removed_one_is_none() -> None:
    marker = Marker().record()
    assert is_account(Input("kite.accounts", 0, 1, 5, b"team_a", b"{}", ())) is True
    assert is_account(Input("kite.accounts", 0, 2, 5, b"team_a", None, ())) is None
    assert is_account(Input("kite.accounts", 0, 3, 5, marker.key, marker.value, marker.headers)) is None
    assert marker.key == MARKER_KEY
