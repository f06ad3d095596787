import pytest
from rich.table import Table

from ams_eval.console import table_console


def test_a_row_is_one_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(*(f"setting_number_{number}" for number in range(8)))
    table.add_row(*("x" * 16 for _ in range(8)))
    table_console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert any(all(f"setting_number_{number}" in line for number in range(8)) for line in lines)
    assert sum("x" in line for line in lines) == 1
