"""Breaks the rules of deploy/observe in every way below, one at a time, and runs their promtool tests: exit 1 if none of them fails.

Usage: break_rules.py [PATTERN OF NAMES]. What nobody can tell apart from the right rule stands in SAME, with the reason. Needs what
scripts/promtool.py needs, and minutes.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for two calls

ROOT: Final = Path(__file__).resolve().parents[1]
OBSERVE: Final = ROOT / "deploy/observe"
PROMTOOL: Final = (sys.executable, str(ROOT / "scripts/promtool.py"))
AT_ONCE: Final = 2
FILES: Final = ("alerts.yml", "slos.yml")
_BOUND: Final = re.compile(r"(?<=[<>=] )[0-9.]+")
_RANGE: Final = re.compile(r"(?<=\[)\d+(?=[mhd])|(?<=offset )\d+(?=[mhd])")
_OPPOSITE: Final = {" > ": " <= ", " < ": " >= ", " >= ": " < ", " == ": " != ", " != ": " == ", "=~": "!~", "!~": "=~"}

# Broken, and the same all the same: (name, how).
SAME: Final = frozenset({
    # Three are told as 3.2 within five minutes, as Prometheus takes it that they go on to the edges; two as 2.1.
    ("consumer-fails", "`onsumer_restarts_total[5m]) > 3` as `2.4`"),
    # Whole numbers.
    ("restarts-again-and-again", "`ax_over_time(kite_up[30m])) > 2` as `2.5`"),
    ("facilitator-stuck", "`cilitator_unclear_in_a_row >= 2` as `1.6`"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken:
    """A group of rules of which one is broken, and the tests of which one has to fail then."""

    name: str
    how: str
    group: dict[str, Any]
    tests: dict[str, Any]


def main() -> int:
    """Say what no test saw; the exit code."""
    wanted = re.compile(sys.argv[1] if len(sys.argv) > 1 else "")
    broken = [one for file in FILES for one in _broken(file) if wanted.search(one.name)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rules = [_written(folder / f"{number}.yml", {"groups": [one.group]}) for number, one in enumerate(broken)]
        # A rule that does not parse makes every test fail, and says nothing of any.
        _promtool("check", "rules", *map(str, rules)).check_returncode()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            seen = list(threads.map(_is_seen, broken, rules))
    unseen = [one for one, is_seen in zip(broken, seen, strict=True) if not is_seen and (one.name, one.how) not in SAME]
    for one in unseen:
        print(f"{one.name}: no test sees {one.how}", file=sys.stderr)
    print(f"{len(broken)} broken rules: tests saw {sum(seen)}, and did not see {len(unseen)} that they should have")
    return 1 if unseen else 0


def _broken(file: str) -> Iterator[Broken]:
    tests = yaml.safe_load((OBSERVE / "tests" / file).read_text("utf-8"))
    for group in yaml.safe_load((OBSERVE / file).read_text("utf-8"))["groups"]:
        slo = group["name"].removeprefix("kite-")
        for number, rule in enumerate(group["rules"]):
            name = rule.get("alert") or f"{rule['record']} {rule['labels']['window']}"
            own = _tests_of_alert(tests, name) if file == "alerts.yml" else _tests_of_slo(tests, slo, orjson.dumps(group).decode())
            for how, worse in _worse(rule):
                rules = [*group["rules"][:number], worse, *group["rules"][number + 1 :]]
                yield Broken(name, how, group | {"rules": rules}, own)


def _tests_of_alert(tests: dict[str, Any], name: str) -> dict[str, Any]:
    return tests | {"tests": [test for test in tests["tests"] if test["name"].startswith(f"{name}: ")]}


def _tests_of_slo(tests: dict[str, Any], slo: str, rules: str) -> dict[str, Any]:
    """Those that have series of this SLO, without what they have of others: a fifth of the time."""
    own = []
    for test in tests["tests"]:
        series = [one for one in test["input_series"] if one["series"].partition("{")[0] in rules]
        asked = [
            {"eval_time": one["eval_time"], "expr": one["expr"].replace("slo-.*", slo)}
            | {"exp_samples": [sample for sample in one["exp_samples"] if _is_of(slo, sample)]}
            for one in test["promql_expr_test"]
        ]
        if series:
            own.append(test | {"input_series": series, "promql_expr_test": asked})
    return tests | {"tests": own}


def _is_of(slo: str, sample: dict[str, Any]) -> bool:
    return "alertname" not in sample["labels"] or f'alertname="{slo}"' in sample["labels"]


def _worse(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for how, expression in _expressions(rule["expr"]):
        yield how, rule | {"expr": expression}
    if rule.get("for", "0s") != "0s":
        seconds = int(rule["for"].removesuffix("s"))
        yield "no wait", rule | {"for": "0s"}
        yield f"{2 * seconds} s of waiting", rule | {"for": f"{2 * seconds}s"}
    if "alert" in rule:
        severity = "ticket" if rule["labels"]["severity"] == "page" else "page"
        yield f"severity {severity}", rule | {"labels": rule["labels"] | {"severity": severity}}


def _expressions(right: str) -> Iterator[tuple[str, str]]:
    for found in _BOUND.finditer(right):
        value = float(found[0])
        for other in (1.5, -1.0) if value == 0 else (value * 1.25, value * 0.8):
            yield _changed(right, found, f"{other:g}")
    yield from _ranges(right)
    for operator, opposite in _OPPOSITE.items():
        for found in re.finditer(re.escape(operator), right):
            yield _changed(right, found, opposite)
    yield from _without_parts(right)


def _ranges(right: str) -> Iterator[tuple[str, str]]:
    """Twice as long and half as long; of a share those above and below at once: one alone matters only while traffic changes."""
    for found in list(_RANGE.finditer(right))[: 1 if " / " in right else None]:
        for other in {int(found[0]) * 2, -(-int(found[0]) // 2)} - {int(found[0])}:
            if " / " in right:
                yield f"ranges of {other}, not {found[0]}", re.sub(rf"(?<=\[){found[0]}(?=[mhd])", str(other), right)
            else:
                yield _changed(right, found, str(other))


def _without_parts(right: str) -> Iterator[tuple[str, str]]:
    """All but one side of an `or` or an `and` that stands in no brackets."""
    for word in (" or ", " and ignoring(window) " if "ignoring(" in right else " and "):
        parts = _outside(right, word)
        for number in range(len(parts) if len(parts) > 1 else 0):
            yield f"no part {number + 1} of `{word.strip()}`", word.join([*parts[:number], *parts[number + 1 :]])


def _outside(right: str, word: str) -> list[str]:
    """The expression, split at a word where no bracket is open."""
    parts = [""]
    for piece in right.split(word):
        open_ones = parts[-1].count("(") - parts[-1].count(")")
        if parts[-1] and open_ones == 0:
            parts.append(piece)
        else:
            parts[-1] += (word if parts[-1] else "") + piece
    return parts


def _changed(right: str, found: re.Match[str], new: str) -> tuple[str, str]:
    expression = right[: found.start()] + new + right[found.end() :]
    return f"`{right[max(0, found.start() - 30) : found.end()]}` as `{new.strip()}`", expression


def _is_seen(one: Broken, rules: Path) -> bool:
    """Whether a test fails."""
    tests = _written(rules.with_suffix(".tests.yml"), one.tests | {"rule_files": [rules.name]})
    return _promtool("test", "rules", str(tests)).returncode != 0


def _written(path: Path, content: dict[str, Any]) -> Path:
    # JSON is YAML.
    path.write_bytes(orjson.dumps(content))
    return path


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROMTOOL, *arguments], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - ours


if __name__ == "__main__":
    sys.exit(main())
