"""A Network's stages as the C++ streaming runtime takes them (native/stream.h)."""

from typing import Any

from undertow.networks import (
    Bidirectional,
    Dense,
    Embedding,
    Network,
    Normalise,
    Pool,
    Recurrent,
    Scale,
    Stage,
    Unsupported,
)

OF_LSTM = ("c_0", "weight_hr", "peepholes", "gain_x", "gain_h", "gain_c", "bias_c")
DTYPES = ("float32", "int16")


def stages_of(network: Network, dtype: str = "float32") -> list[dict[str, Any]]:
    """Describe the stages.

    Args:
        network: What is to run.
        dtype: Of the weights of LSTM layers: ``float32`` or ``int16``.

    Returns:
        A dict for each stage: its kind, its sizes, its arrays as they are.

    Raises:
        Unsupported: A layer reads from the last step to the first.
        ValueError: ``dtype`` is another one.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: expected {' or '.join(DTYPES)}, got {dtype}")
    return [_described(stage) | {"narrow": dtype == "int16"} for stage in network.stages]


def _described(stage: Stage) -> dict[str, Any]:
    size_in, size_out = stage.widths()
    return {"in": size_in, "out": size_out} | _fields(stage)


def _fields(stage: Stage) -> dict[str, Any]:
    match stage:
        case Embedding():
            return {"kind": "embedding", "weight": stage.weight, "symbols": len(stage.weight)}
        case Normalise():
            return {"kind": "normalise", "centre": stage.centre, "scale": stage.scale}
        case Scale():
            return {"kind": "scale", "scale": stage.scale, "shift": stage.shift}
        case Recurrent():
            return _recurrent(stage)
        case Dense():
            weights = {"weight": stage.weight, "bias": stage.bias}
            return {"kind": "dense", "activation": stage.activation} | weights
        case Pool(kind="ends"):
            raise Unsupported("a pool of both ends: a stream has no last step to start from")
        case Pool():
            return {"kind": "pool", "pooling": stage.kind, "query": stage.query}
        case Bidirectional():
            raise Unsupported(
                "bidirectional: a stream has no last step to start from; undertow.load makes a module of it"
            )


def _recurrent(stage: Recurrent) -> dict[str, Any]:
    if stage.reverse:
        raise Unsupported("reverse: a stream has no last step to start from")
    fields: dict[str, Any] = {"kind": stage.cell, "hidden": stage.hidden_size, "coupled": stage.coupled}
    fields |= {name: getattr(stage, name) for name in ("weight_ih", "weight_hh", "bias", "h_0")}
    fields |= dict(zip(("zoneout_h", "zoneout_c"), stage.zoneout, strict=True))
    if stage.cell == "rnn":
        return fields | {"activation": stage.nonlinearity}
    return fields | {name: getattr(stage, name) for name in OF_LSTM}
