"""Exports a run of every task to every target, runs what was written, and fills the table of docs/export.md.

    make exports

Each export is run by the program that it is for and compared with undertow.stream, or with the module where a
layer reads backwards or a forecast has windows. Needs a C compiler, cc, and ONNX Runtime.
"""

import ctypes
import json
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import undertow
from undertow import networks, stream
from undertow.app.exporting import targets
from undertow.app.runs.folder import open_run
from undertow.networks import Unsupported

ROOT = Path(__file__).resolve().parents[1]
PAGE, DATA = ROOT / "docs" / "export.md", ROOT / "examples" / "data"
BEGIN, END = "<!-- make exports -->", "<!-- end -->"
SHORT = {"epochs": 2, "hidden_size": 16, "quiet": True}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("rhymes.txt", {"num_layers": 2}),
    "class of a sequence": ("gestures.csv", {"sequence": "id", "label": "gesture"}),
    "class, last step, forwards": (
        "gestures.csv",
        {"sequence": "id", "label": "gesture", "readout": "last", "bidirectional": False},
    ),
    "number of a sequence": ("batteries.csv", {"sequence": "battery", "label": "remaining"}),
    "class of each step": ("activity.csv", {"sequence": "person", "label": "state", "per": "step"}),
    "simulation": ("river.csv", {"target": ["level"], "simulate": True}),
    "forecast": ("river.csv", {"target": ["level"]}),
    "forecast of a panel, decoder": (
        "sales.csv",
        {"target": ["sold"], "group": ["store", "item"], "known": ["promo", "holiday"], "horizon": 7},
    ),
    "problem": ("adding", {"steps": 50}),
    "sound": ("clean.wav amp.wav", {}),
}
T = 40


def main() -> None:
    """Make the table."""
    torch.manual_seed(0)
    names = [each for each in targets.TARGETS if each != "safetensors"]  # which is exact
    rows = [("task", *names), ("---", *["---"] * len(names))]
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        runpy.run_path(str(ROOT / "examples" / "amp.py"))["main"](6)
        for name, (source, options) in RUNS.items():
            sources = [DATA / each if (DATA / each).exists() else each for each in source.split()]
            run = undertow.train(sources, folder=f"run_{len(rows)}", **SHORT | options)
            row = [_tried(Path(run.folder), target) for target in names]
            rows.append((name, *row))
            print(*rows[-1], sep=" | ", flush=True)
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def _tried(folder: Path, target: str) -> str:
    """The largest difference, relative to the largest output if that is above 1; or what is refused."""
    chosen = targets.TARGETS[target]
    path = chosen.named(folder)
    try:
        targets.write(folder, chosen, path)
    except undertow.UserError as error:
        print(error)
        return "–"
    x, right = _truth(folder)
    got = RUNNERS[target](path, x)[-len(right) :]  # of a network that answers once the last step
    apart = np.abs(got - right).max() / max(1.0, np.abs(right).max())
    return f"{apart:.0e}" if apart else "0"


def _truth(folder: Path) -> tuple[Any, Any]:
    """An input [T,N,C] or symbols [T,N], and the outputs of the last step, or of every step."""
    run = open_run(folder)
    model, config = run.load_model(), run.model
    rows = run.data.steps + config.ahead if config.residual else T
    if config.symbols:
        x = np.random.default_rng(0).integers(0, config.symbols, (rows, 1))
    else:
        x = np.random.default_rng(0).standard_normal((rows, 1, config.inputs), np.float32)
    try:
        network = networks.read(folder)
        y = stream.load(network).process(x[:, 0])
        return x, y[-1:] if network.once else y
    except Unsupported:
        with torch.no_grad():
            y = model(torch.from_numpy(x))[0].numpy()
        return x, y[:, 0] if y.ndim == 3 else y


def _onnx(path: Path, x: Any) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = {"x": x}
    for each in session.get_inputs()[1:]:
        given[each.name] = (
            np.array([len(x)]) if each.name == "lengths" else np.zeros((1, 1, each.shape[2]), np.float32)
        )
    y = session.run(["y"], given)[0]
    return y.reshape(-1, y.shape[-1]) if y.shape[1] == 1 and len(given) > 1 else y.reshape(len(y), -1)


def _c(path: Path, x: Any) -> Any:
    name = path.stem
    library = Path(f"lib{name}.so").resolve()
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, path, "-o", library], check=True)
    loaded = ctypes.CDLL(str(library))
    header = path.with_suffix(".h").read_text()
    outputs = int(header.split(f"#define {name.upper()}_OUTPUTS ")[1].split()[0])
    given = np.ascontiguousarray(x.reshape(len(x), -1), np.float32)
    y, state = np.empty((len(x), outputs), np.float32), np.zeros(1 << 20, np.float32)
    getattr(loaded, f"{name}_init")(_at(state))
    getattr(loaded, f"{name}_process")(_at(state), _at(given), _at(y), ctypes.c_size_t(len(x)))
    return y


def _at(array: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _program(path: Path, x: Any) -> Any:
    code = (
        f"import json, torch, {path.stem} as program; model = program.load()\n"
        f"y = model(torch.tensor(json.load(open('x.json'))){'' if x.ndim == 2 else '.float()'})\n"
        "y = y[0] if isinstance(y, tuple) else y\nprint(json.dumps(y.tolist()))"
    )
    Path("x.json").write_text(json.dumps(x.tolist()))
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    y = np.array(json.loads(found))
    return y[:, 0] if y.ndim == 3 else y


def _streamed(path: Path, x: Any) -> Any:
    return stream.load(path).process(x[:, 0])


RUNNERS: dict[str, Callable[[Path, Any], Any]] = {
    "onnx": _onnx,
    "c": _c,
    "nam": _streamed,
    "rtneural": _streamed,
    "torch": _program,
}
if __name__ == "__main__":
    main()
