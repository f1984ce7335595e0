"""Waiting for a fact: it comes, it never comes, it hangs, it fails first."""

import asyncio

import pytest

from kite_common.testing.eventually import eventually


async def test_the_first_truthy_result_is_returned() -> None:
    answers = iter([0, "", None, "there"])
    assert await eventually(lambda: next(answers), every_s=0, what="an answer") == "there"


async def test_checks_may_be_async_and_may_fail_at_first() -> None:
    tries = 0

    async def check() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("not up yet")
        return tries

    assert await eventually(check, every_s=0, what="a connection") == 3


async def test_a_fact_that_never_comes_is_named_with_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"the moon is blue \(last value \[\]\)"):
        await eventually(lambda: [], within_s=0.02, every_s=0.005, what="the moon is blue")


async def test_the_last_exception_is_named_and_chained() -> None:
    def check() -> bool:
        raise ConnectionError("refused")

    with pytest.raises(AssertionError, match="last error ConnectionError: refused") as caught:
        await eventually(check, within_s=0, what="a connection")
    assert isinstance(caught.value.__cause__, ConnectionError)


async def test_a_check_that_hangs_is_cut_off() -> None:
    async def check() -> bool:
        return await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="TimeoutError"):
        await eventually(check, within_s=0.02, what="an answer")
