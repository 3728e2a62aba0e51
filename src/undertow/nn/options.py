"""The options that add to torch's equations: names, values, checks, and access as attributes of a module.

docs/variants.md gives the equation and the cost of each option.
"""

from typing import Any, NamedTuple

Rate = float | tuple[float, float]

FLAGS = ("learn_initial_state", "layer_norm", "peepholes", "coupled")
RATES = ("input_dropout", "recurrent_dropout", "weight_drop", "zoneout")
_OF_GATES = ("layer_norm", "peepholes", "coupled")
_IN_THE_KERNEL = ("recurrent_dropout", "zoneout", *_OF_GATES)


class Options(NamedTuple):
    """The options of one module. The defaults are torch's LSTM and RNN.

    Dropout and ``weight_drop`` act in training mode only. Rates are probabilities from 0 to 1.

    Attributes:
        learn_initial_state: h_0 and c_0 are parameters; a call without ``hx`` and a reset start from them.
        input_dropout: rate of dropout of each layer's input, the same entries at all steps (Gal & Ghahramani
            2016, arXiv:1512.05287).
        recurrent_dropout: the same for h_{t-1}.
        weight_drop: rate of dropout of weight_hh, drawn once for each call (Merity, Keskar & Socher 2018,
            arXiv:1708.02182).
        zoneout: rate at which entries of h and of c keep their previous value; a pair gives h and c a rate
            each. In evaluation mode the expected value takes its place (Krueger et al. 2017,
            arXiv:1606.01305).
        layer_norm: normalisation of W x_t, of U h_{t-1} and of c_t (Ba, Kiros & Hinton 2016,
            arXiv:1607.06450, eqs. 20-22).
        peepholes: the gates also read the cell (Gers & Schmidhuber 2000, IJCNN).
        coupled: the forget gate is f = 1 - i (CIFG; Greff et al. 2017, IEEE TNNLS 28(10)).
    """

    learn_initial_state: bool = False
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_drop: float = 0.0
    zoneout: Rate = 0.0
    layer_norm: bool = False
    peepholes: bool = False
    coupled: bool = False

    def given(self) -> dict[str, Any]:
        """Return the options that differ from torch's, by name."""
        return {name: value for name, value in self._asdict().items() if value not in (0, (0, 0))}

    @property
    def zoneouts(self) -> tuple[float, float]:
        """The rates of zoneout for h and for c."""
        return self.zoneout if isinstance(self.zoneout, tuple) else (self.zoneout, self.zoneout)


TORCH = Options()


def check(options: Options, lstm: bool) -> None:
    """Check each option by itself.

    Args:
        options: the options of a module.
        lstm: whether the module is an LSTM and not a plain RNN.

    Raises:
        TypeError: an option has the wrong type. The message names it.
        ValueError: an option has the wrong value, or the plain RNN does not have it.
    """
    for name, value in options._asdict().items():
        if name in FLAGS and not isinstance(value, bool):
            raise TypeError(f"{name}: expected a bool, got {type(value).__name__}")
        if name in _OF_GATES and value and not lstm:
            raise ValueError(f"{name}: expected False for the RNN, which has no gates and no cell")
        if name in RATES:
            _check_rates(name, value, lstm)


def _check_rates(name: str, value: Any, lstm: bool) -> None:
    pair = name == "zoneout" and isinstance(value, tuple)
    if pair and not lstm:
        raise ValueError(f"zoneout: expected one number for the RNN, which has no cell, got {value}")
    if pair and len(value) != 2:
        raise ValueError(f"zoneout: expected a number or a pair, for h and for c, got {value}")
    for rate in value if pair else (value,):
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            kinds = "a number or a tuple of two" if name == "zoneout" else "a number"
            raise TypeError(f"{name}: expected {kinds}, got {type(rate).__name__}")
        if not 0 <= rate <= 1:
            raise ValueError(f"{name}: expected between 0 and 1, got {rate}")


def check_together(
    options: Options, *, checkpoint: int | None, forget_bias: float | None, marks: tuple[str, ...] = ()
) -> None:
    """Check that options do not exclude each other.

    Args:
        options: the options of a module.
        checkpoint: the module's steps in a segment; None: no segments.
        forget_bias: the module's initial forget-gate bias; None: torch's.
        marks: ``"mask"`` and ``"reset"``, if the call has them.

    Raises:
        ValueError: two options exclude each other. The message names both.
    """
    if options.coupled and forget_bias is not None:
        raise ValueError(
            "forget_bias: expected None with coupled=True, whose forget gate is 1 - i and has no bias, "
            f"got {forget_bias}"
        )
    varied = [name for name in options.given() if name in _IN_THE_KERNEL] + list(marks)
    if checkpoint is not None and varied:
        raise ValueError(
            f"checkpoint: expected None with {varied[0]}, which training in segments does not know, "
            f"got {checkpoint}"
        )


class Option:
    """An option as an attribute of a module. It can be read at any time; rates can also be set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer._options or TORCH, self._name)

    def __set__(self, layer: Any, value: Any) -> None:
        if self._name not in RATES:
            raise AttributeError(
                f"{self._name}: chosen when the module is made, for its parameters or equations"
            )
        layer._choose((layer._options or TORCH)._replace(**{self._name: value}))
