"""The collector waits for the imports of a command, and then works as usual."""

import gc
import subprocess
import sys

CHILD = """
import gc, weakref
from undertow.app.garbage import IMPORTED, wait_for_imports

class Circle:
    def __init__(self):
        self.own = self

usual, callbacks = gc.get_threshold(), list(gc.callbacks)
wait_for_imports()
early = weakref.ref(Circle())
kept = [[] for _ in range(IMPORTED // 2)]
assert early() is not None, "searched while imports go on"
kept += [[] for _ in range(IMPORTED)]
assert gc.get_freeze_count() > IMPORTED, "what the imports made is searched"
assert gc.get_threshold() == usual and gc.callbacks == callbacks, gc.get_threshold()
late = weakref.ref(Circle())
kept += [[] for _ in range(IMPORTED)]
assert late() is None, "garbage of the work stays"
"""


def test_garbage_is_collected_after_the_imports():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_command_waits_for_its_imports():
    code = (
        "import gc, sys; sys.argv = ['undertow', '--version']; import undertow.app as app\n"
        "try: app.main()\n"
        "except SystemExit: pass\n"
        "from undertow.app.garbage import IMPORTED; assert gc.get_threshold()[0] == IMPORTED"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert gc.get_threshold()[0] < 300_000, "only in the command's own process"
