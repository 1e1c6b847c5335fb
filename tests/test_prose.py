"""What `make lint` asks of texts finds what is broken, and nothing else."""

from __future__ import annotations

import json

import pytest
import yaml
from prose import ROOT, anchors, broken, misspelt

GOOD = """# A text
[in this text](#a-text) [a file](paper/other.md) [its heading](paper/other.md#two-words-1) [elsewhere](https://x.y/z)
[a folder](paper) ![an image](<paper/a%20b.svg> "title") [as a reference][one] `[code](none.md)`

```
[a block](none.md)
# no heading
```

[one]: paper/other.md
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "paper").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "README.md").write_text(GOOD)
    (tmp_path / "paper" / "other.md").write_text("## `Two` words\n\n## Two words\n\n[up](../README.md#a-text)\n")
    (tmp_path / "paper" / "a b.svg").touch()
    cells = [{"cell_type": "markdown", "source": ["## By language\n", "[here](#By-language) [there](../README.md)"]}]
    code = [{"cell_type": "code", "source": ["# [no link](none.md)"]}]
    (tmp_path / "notebooks" / "a.ipynb").write_text(json.dumps({"cells": cells + code}))
    return tmp_path


def test_links_that_lead_somewhere_are_no_fault(checkout):
    assert broken(checkout) == []


@pytest.mark.parametrize(
    ("link", "line"),
    [
        ("[x](none.md)", "README.md: none.md: expected a file or folder of this checkout"),
        ("![x](paper/none.svg)", "README.md: paper/none.svg: expected a file or folder of this checkout"),
        ("[x](../README.md)", "README.md: ../README.md: expected a file or folder of this checkout"),
        ("[x]: none.md", "README.md: none.md: expected a file or folder of this checkout"),
        ("[x](#none)", "README.md: #none: expected a heading of README.md"),
        ("[x](#no-heading)", "README.md: #no-heading: expected a heading of README.md"),
        ("[x](paper/other.md#none)", "README.md: paper/other.md#none: expected a heading of paper/other.md"),
        ("[x](paper/a%20b.svg#x)", "README.md: paper/a%20b.svg#x: expected a heading of paper/a b.svg"),
        ("[x](notebooks/a.ipynb#by-language)", "README.md: notebooks/a.ipynb#by-language: expected a heading of "),
    ],
)
def test_a_link_that_leads_nowhere_is_a_line(checkout, link, line):
    (checkout / "README.md").write_text(f"{GOOD}\n{link}\n")
    (found,) = broken(checkout)
    assert found.startswith(line)


def test_headings_are_called_as_hosts_and_jupyter_call_them():
    assert anchors("# On a GPU\n## `make x`: [y](z), 1.5\n") == {"on-a-gpu", "make-x-y-15"}
    assert anchors("## On a GPU", notebook=True) == {"On-a-GPU"}


def test_a_misspelt_word_is_found_where_codespell_is_installed(checkout, capsys):
    pytest.importorskip("codespell_lib", reason="the extra prose is not installed")
    assert misspelt(checkout) == 0
    (checkout / "paper" / "other.md").write_text("Recieve it.\n")
    assert misspelt(checkout) > 0
    assert "other.md:1: Recieve ==> Receive" in capsys.readouterr().out


def test_a_commit_is_looked_at_by_make_lint():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (hook,) = repository["hooks"]
    assert (repository["repo"], hook["language"], hook["entry"]) == ("local", "system", "make lint")
    assert hook["pass_filenames"] is False and hook["always_run"]
