"""Runs are chosen by the machine's pace around them, never by what they measured."""

from __future__ import annotations

import pytest

from tests.benchmarks import pace


def around(monkeypatch: pytest.MonkeyPatch, *paces: float) -> None:
    """What `paces` says in turn, before and after each run: the same on both cores."""
    said = iter(paces)
    monkeypatch.setattr(pace, "paces", lambda: [next(said)] * 2)


def test_it_goes_on_until_enough_runs_were_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    around(monkeypatch, 9, 9, 9, 15, 10, 9)
    results = iter("abc")
    assert pace.undisturbed(lambda: next(results), 2) == [(9, "a"), (10, "c"), (15, "b")]


def test_it_ends_though_all_were_disturbed_but_one(monkeypatch: pytest.MonkeyPatch) -> None:
    around(monkeypatch, 9, 9, *[15] * 10)
    assert [one.pace for one in pace.undisturbed(lambda: "x", 2)] == [9, 15, 15, 15, 15, 15]


def test_a_failed_run_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    around(monkeypatch, *[9] * 6)
    results = iter(["a", None, "b"])
    assert pace.undisturbed(lambda: next(results), 3) == []


def test_every_core_has_its_pace() -> None:
    assert all(each > 0 for each in pace.paces())
