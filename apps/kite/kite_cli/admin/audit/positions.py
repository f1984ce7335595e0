"""Where billing's state and its group stand: at the same place, or its next owner would lose or repeat inputs. Pure."""

from collections.abc import Mapping

from kite_cli.admin.audit.findings import Findings
from kite_cli.admin.audit.records import Place


def compare(findings: Findings, state: Place, marked: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Compare the marker of a state topic with what the group had committed just before and just after the state's end was asked for."""
    for topic, position in sorted(before.items()):
        findings.checked["positions"] += 1
        stands, at_most = marked.get(topic, 0), after.get(topic, position)
        if not position <= stands <= at_most:
            committed = str(position) if position == at_most else f"{position} to {at_most}"
            detail = f"the state stands at {stands} of {topic}, the group at {committed}"
            findings.violation("positions", "", f"{state.topic}-{state.partition}", detail)
