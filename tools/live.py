"""Makes docs/live.html of a run of ``undertow train`` on the characters of a text: ``make live RUN=FOLDER``.

    python tools/live.py RUN [--about "It was trained on ..."] [--output docs/live.html]

The run has one LSTM layer. Its network becomes C (undertow.networks.write), the C becomes WebAssembly by
emscripten, and page, style, script and WebAssembly become one file that needs nothing else. The weights are
rounded to 16 bits first, which halves the file.
"""

import argparse
import base64
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Template

from undertow import networks, stream
from undertow.networks import Dense, Embedding, Network, Recurrent, Stage
from undertow.palette import css_variables

HERE = Path(__file__).parent / "live"
LARGEST = 400_000  # bytes of the page
EXPORTS = ("start", "take", "output", "gates", "cell", "hidden")
STRIPS = (
    ("f", "Forget gate", "how much of the memory stays"),
    ("c", "Cell state", "the memory, drawn as tanh(c)"),
    ("i", "Input gate", "how much is written"),
    ("g", "Input modulation", "what is written"),
    ("o", "Output gate", "how much of the memory is shown"),
    ("h", "Hidden state", "what is shown, to the next step and to the guess"),
)
OPENING = "The night is long, and I have far to go,\nAnd yet the "
SAMPLE = """Good morrow, cousin. What news from the north?

SERVANT:
The king is come, my lord, and with him all
The noble friends that stood with us in war;
They ask for you, and will not eat or sleep
Till they have seen your face.

DUKE:
Then let them in. I will be with them by and by.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="the run folder")
    parser.add_argument("--about", default="", help="what the network was trained on, in a sentence")
    parser.add_argument("--output", type=Path, default=HERE.parents[1] / "docs" / "live.html")
    given = parser.parse_args()
    html = page(networks.read(given.run), given.about)
    if len(html.encode()) > LARGEST:
        sys.exit(f"the page has {len(html.encode()):,} bytes; expected at most {LARGEST:,}")
    given.output.write_text(html, "utf-8")


def page(network: Network, about: str) -> str:
    """Return the page of a network of characters."""
    network = rounded(with_softmax(network))
    layer, symbols = network.stages[1], network.labels
    known = set(symbols)
    opening, sample = ("".join(c for c in text if c in known) for text in (OPENING, SAMPLE))
    facts = {
        "hidden": layer.hidden_size, "padded": -(-layer.hidden_size // 8) * 8, "symbols": symbols,
        "opening": opening, "sample": sample, "guesses": guesses(network, sample).tolist(),
        "wasm": base64.b64encode(gzip.compress(compiled(network), mtime=0)).decode(),
    }  # fmt: skip
    report = files("undertow.report").joinpath("page.css").read_text("utf-8")
    colours = report[: report.index(":is(")]  # of the pages of undertow inspect
    lines = f":root {{ {css_variables('n')} }} :root[data-theme=dark] {{ {css_variables('n', dark=True)} }}\n"
    template = Template((HERE / "page.html").read_text("utf-8"), autoescape=True)
    return template.render(
        hidden=layer.hidden_size, about=about, strips=STRIPS,
        style=lines + colours + (HERE / "page.css").read_text("utf-8"),
        script=(HERE / "page.js").read_text("utf-8"),
        facts=json.dumps(facts, ensure_ascii=False).replace("<", "\\u003c"),
    )  # fmt: skip


def with_softmax(network: Network) -> Network:
    """Return the network with probabilities as its outputs."""
    match network.stages:
        case (Embedding(), Recurrent(cell="lstm"), Dense() as head) if len(network.labels) == len(head.bias):
            return replace(network, stages=(*network.stages[:2], replace(head, activation="softmax")))
    sys.exit("expected a run on the characters of a text with one LSTM layer: --num-layers 1")


def rounded(network: Network) -> Network:
    """Return the network with its weights in 16 bits: float32 whose last bits are zero, which gzip packs."""

    def halved(stage: Stage) -> Stage:
        arrays = {f.name: getattr(stage, f.name) for f in fields(stage)}
        kept = {k: np.float16(v) for k, v in arrays.items() if isinstance(v, np.ndarray)}
        return replace(stage, **kept)

    return replace(network, stages=tuple(map(halved, network.stages)))


def guesses(network: Network, text: str) -> np.ndarray:
    """The probabilities [V] of the character after a text, by undertow.stream: what the page must find."""
    numbers = [network.labels.index(c) for c in text]
    return stream.load(network).process(np.float32(numbers)[:, None])[-1]


def compiled(network: Network) -> bytes:
    """The network as WebAssembly."""
    if shutil.which("emcc") is None:
        sys.exit("needs emscripten: apt install emscripten")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        networks.write(network, folder / "net.c")
        exports = ",".join(f"_{each}" for each in EXPORTS)
        command = [
            "emcc",
            "-O3",
            "-msimd128",
            "-DNET_TRACE",
            f"-I{folder}",
            folder / "net.c",
            HERE / "live.c",
        ]
        command += ["--no-entry", "-sSTANDALONE_WASM=1", "-sTOTAL_STACK=65536", "-sINITIAL_MEMORY=1048576"]
        command += [f"-sEXPORTED_FUNCTIONS={exports}", "-o", folder / "live.wasm"]
        subprocess.run(command, check=True)
        return (folder / "live.wasm").read_bytes()


if __name__ == "__main__":
    main()
