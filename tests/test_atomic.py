"""Files that are written in one step."""

import subprocess
import sys

from undertow import atomic

OTHER = "import sys; from pathlib import Path; from undertow import atomic\n"
OTHER += "atomic.write(Path(sys.argv[1]), lambda path: path.write_text('other'))"


def test_two_processes_may_write_a_file_at_once(tmp_path):
    path = tmp_path / "a.txt"

    def fill(beside):
        beside.write_text("mine")
        subprocess.run([sys.executable, "-c", OTHER, path], check=True)
        assert path.read_text() == "other"

    atomic.write(path, fill)
    assert path.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["a.txt"]
