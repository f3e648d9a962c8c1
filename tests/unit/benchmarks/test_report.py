"""A section of the results is replaced in place, and only that one."""

from pathlib import Path

from tests.benchmarks.report import BENCHMARKS, markdown, put


def test_a_section_is_added_then_replaced(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\nby hand\n")
    put("one", "first", path)
    put("two", "second", path)
    put("one", "third", path)
    assert (
        path.read_text()
        == "# Results\nby hand\n\n<!-- one -->\nthird\n<!-- /one -->\n\n<!-- two -->\nsecond\n<!-- /two -->\n"
    )


def test_a_table_has_a_rule_as_wide_as_its_head() -> None:
    assert markdown(iter([("a", "b"), (1, 2)])) == "| a | b |\n|---|---|\n| 1 | 2 |"


def test_names_are_unique() -> None:
    assert len({each.name for each in BENCHMARKS}) == len(BENCHMARKS)
