"""A network as C99: a header and a source that holds the weights.

The handwritten pieces lie beside this file as C. What a network needs of them is put together, with its
weights, into one source that calls nothing but memcpy.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from undertow import atomic
from undertow.networks.formats.c.stages import Array, Part, number, part_of
from undertow.networks.network import Network, Unsupported

HERE = Path(__file__).parent
PIECES = (
    "vectors", "affine", "roots", "exponential", "embedding", "normalise", "scale", "lstm", "options", "rnn",
    "dense", "softmax", "pool", "attention",
)  # fmt: skip
A_LINE = 8  # numbers of a line


def write(network: Network, path: Path) -> None:
    """Write the header beside ``path``, then the source to ``path``.

    Raises Unsupported as ``sources`` does, and OSError where a file cannot be written.
    """
    header, source = sources(network, path.stem)
    atomic.write(path.with_suffix(".h"), lambda new: new.write_text(header, encoding="utf-8"))
    atomic.write(path, lambda new: new.write_text(source, encoding="utf-8"))


def sources(network: Network, name: str) -> tuple[str, str]:
    """Write a network in C.

    Args:
        network: Any network that a stream can run.
        name: The name of the files, without suffix. It begins the names in C, where an underscore replaces
            what is no letter, digit or underscore.

    Returns:
        The header and the source.

    Raises:
        Unsupported: A layer reads from the last step to the first, or a weight is infinite or NaN.
    """
    parts: list[Part] = []
    for k, stage in enumerate(network.stages, 1):
        parts.append(part_of(k, stage, parts[-1].y if parts else "x"))
    for part in parts:
        for array_name, array in part.arrays.items():
            if not np.isfinite(array).all():
                raise Unsupported(f"C: {array_name}: expected finite numbers, got infinity or NaN")
    prefix = _prefix(name)
    header = _filled("network.h", prefix, {
        "about": _about(network, parts),
        "sizes": _sizes(network, prefix.upper()),
        "state": _state(parts, prefix.upper()),
    })  # fmt: skip
    source = _filled("network.c", prefix, {
        "about": _about(network, parts),
        "include": f'#include "{name}.h"',
        "pieces": _pieces(parts, prefix.upper()),
        "constants": _constants(parts),
        "reset": _lines(line for part in parts for line in part.reset) or "(void)state;",
        "step": _step(network, parts),
    })  # fmt: skip
    return header, source


def _prefix(name: str) -> str:
    """The name as C takes it."""
    name = re.sub(r"\W", "_", name, flags=re.ASCII)
    return name if name[:1].isalpha() else f"n{name}"


def _filled(template: str, prefix: str, content: dict[str, str]) -> str:
    """A template: names begin with the prefix, marks such as ``/* @state */`` are replaced."""
    text = (HERE / template).read_text("utf-8")
    text = text.replace("network_", f"{prefix}_").replace("NETWORK_", f"{prefix.upper()}_")
    return re.sub(r"/\* @(\w+) \*/", lambda mark: content[mark[1]], text)


def _about(network: Network, parts: list[Part]) -> str:
    lines = ["/* A trained network, written by undertow. Its stages:"]
    lines += [f"  {k}  {part.about}" for k, part in enumerate(parts, 1)]
    if network.skip:
        lines.append(f"The first {network.skip} inputs are added to the first outputs.")
    if network.sample_rate is not None:
        lines.append(f"It was made for {network.sample_rate:g} Hz.")
    if network.symbols:
        lines.append(
            "x is the number of a symbol, as a float. After an unknown one outputs are NaN until reset."
        )
    lines.append(
        "The code is undertow's, under the Apache License 2.0. The numbers are those of the network."
    )
    return "\n * ".join(lines) + "\n */"


def _sizes(network: Network, prefix: str) -> str:
    lines = [
        f"#define {prefix}_INPUTS {network.input_size} /* values of a step that are read */",
        f"#define {prefix}_OUTPUTS {network.output_size} /* values of a step that are written */",
    ]
    if network.symbols:
        lines.append(f"#define {prefix}_SYMBOLS {network.symbols} /* x is one of 0, 1, ... as a float */")
    if network.sample_rate is not None:
        lines.append(f"#define {prefix}_SAMPLE_RATE {float(network.sample_rate)!r} /* Hz */")
    if network.labels:
        names = ", \\\n  ".join(map(_quoted, network.labels))
        use = f"const char *labels[] = {{{prefix}_LABELS}};"
        lines.append(f"#define {prefix}_LABELS /* of outputs, in UTF-8: {use} */ \\\n  {names}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A string of C: what is not plain ASCII as the octal numbers of its bytes."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return (
        '"'
        + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode("utf-8", "surrogatepass"))
        + '"'
    )


def _state(parts: list[Part], prefix: str) -> str:
    lines = [f"{field}; /* {holds} */" for part in parts for field, holds in part.fields]
    if room := max(part.room for part in parts):
        lines.append(f"float room[{room}];")
    gates = {k: part.gates for k, part in enumerate(parts, 1) if part.gates}
    kept = [
        f"float gates{k}[4 * {size // 4}]; /* i, f, g, o at the last step, {size // 4} apart */"
        for k, size in gates.items()
    ]
    if kept:
        lines += [f"#ifdef {prefix}_TRACE", *kept, "#endif"]
    return _lines(lines).replace("\n  #", "\n#")


def _pieces(parts: list[Part], prefix: str) -> str:
    used = {"vectors", *(piece for part in parts for piece in part.pieces)}
    text = "".join((HERE / f"{piece}.c").read_text("utf-8") for piece in PIECES if piece in used)
    if any(part.gates for part in parts):
        text += f"#ifdef {prefix}_TRACE /* the gates stay in the state: for header and source alike */\n"
        text += "#define GATES(kept) (kept)\n#else\n#define GATES(kept) 0\n#endif\n"
    return text


def _constants(parts: list[Part]) -> str:
    found = []
    for part in parts:
        found += [_constant(name, array) for name, array in part.arrays.items()]
        found += [f"static const {part.layer};\n"] if part.layer else []
    return "\n".join(found)


def _constant(name: str, array: Array) -> str:
    values = [number(value) for value in array.ravel().tolist()]
    rows = [", ".join(values[k : k + A_LINE]) for k in range(0, len(values), A_LINE)]
    kind = "volatile float" if name.endswith("_0") else "float"
    return f"static const {kind} {name}[{len(values)}] ALIGNED = {{\n  " + ",\n  ".join(rows) + "};\n"


def _step(network: Network, parts: list[Part]) -> str:
    y, n = parts[-1].y, network.skip
    lines = [line for part in parts for line in part.step]
    if not n:
        return _lines([*lines, f"memcpy(y, {y}, {network.output_size} * sizeof *y);"])
    lines.append(f"for (k = 0; k < {n}; k++) y[k] = {y}[k] + x[k];")
    if n < network.output_size:
        lines.append(f"memcpy(y + {n}, {y} + {n}, {network.output_size - n} * sizeof *y);")
    return _lines(["int k;", *lines])


def _lines(lines: Iterable[str]) -> str:
    return "\n  ".join(lines)
