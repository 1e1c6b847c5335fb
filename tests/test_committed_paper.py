"""What is committed in paper/ is what the committed record gives."""

import pytest

from xlscale.commands import steps
from xlscale.core import files
from xlscale.engine import notebook


@pytest.mark.slow
def test_the_committed_paper_is_what_the_record_gives(tmp_path):
    for name in steps.Build().notebooks:
        executed = tmp_path / f"{name}.ipynb"
        short = {"again": 0} if name == "08_preparation" else {}
        notebook.execute(files.NOTEBOOKS / f"{name}.ipynb", executed, {"out": str(tmp_path)} | short)
        mine = files.read_json(tmp_path / "generated" / f"{name}.json")
        committed = files.read_json(files.PAPER / "generated" / f"{name}.json")
        texts = [{key: number["text"] for key, number in made["numbers"].items()} for made in (mine, committed)]
        assert texts[0] == texts[1]
        assert mine["tables"] == committed["tables"]
