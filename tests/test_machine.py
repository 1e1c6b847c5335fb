import subprocess

from xlscale.core import machine


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_what_is_computed_does_not_make_the_tree_dirty_and_code_does(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.commit() == {"commit": None, "dirty": None}
    for path in ("results/cells.parquet", "paper/paper.typ", "src/code.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("one")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    (tmp_path / "results/cells.parquet").write_text("two")
    (tmp_path / "results/new.parquet").write_text("two")
    (tmp_path / "paper/numbers.json").write_text("{}")
    assert machine.commit()["dirty"] is False
    (tmp_path / "paper/paper.typ").write_text("two")
    assert machine.commit()["dirty"] is True
    git(tmp_path, "checkout", "paper/paper.typ")
    (tmp_path / "src/new.py").write_text("two")
    assert machine.commit()["dirty"] is True
