"""A section of the results is replaced in place, and only that one, by the machine it was measured on."""

from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.report import BENCHMARKS, markdown, put


def test_a_section_is_added_then_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\nby hand\n")
    for cpu, name, text in (("A", "one", "1"), ("A", "two", "2"), ("B", "one", "3"), ("A", "one", "4")):
        monkeypatch.setattr(report, "cpu", lambda cpu=cpu: cpu)
        put(name, text, path)
    assert path.read_text() == (
        "# Results\nby hand\n\n<!-- one, A -->\n4\n<!-- /one, A -->\n\n<!-- two, A -->\n2\n<!-- /two, A -->\n\n"
        "<!-- one, B -->\n3\n<!-- /one, B -->\n"
    )


def test_a_file_of_results_may_be_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "cpu", lambda: "A")
    put("one", "1", tmp_path / "new.md")
    assert (tmp_path / "new.md").read_text() == "<!-- one, A -->\n1\n<!-- /one, A -->\n"


def test_a_table_has_a_rule_as_wide_as_its_head() -> None:
    assert markdown(iter([("a", "b"), (1, 2)])) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_names_are_unique() -> None:
    assert len({each.name for each in BENCHMARKS}) == len(BENCHMARKS)
