"""A small AWD-LSTM (Merity, Keskar & Socher 2018): a text as a stream, dropout that does not erase memory.

    python examples/language_model.py [text file] [epochs]

Layers of different widths, dropout of the input and of the recurrent weights, and the state carried from
each piece of the text to the next (truncated back-propagation through time). Without a file it reads the
licence of this project. Prints bits per character on the last tenth of the text in the best
epoch, with dropout and without. Needs torch; about a minute on a core.
"""

import math
import sys
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import undertow

LICENCE = Path(__file__).parents[1] / "LICENSE"
WIDTHS, EMBEDDED, STEPS, STREAMS = [256, 128], 32, 50, 8
DROPOUT = {"input_dropout": 0.1, "weight_drop": 0.4}


class Model(torch.nn.Module):
    def __init__(self, symbols: int, **options: float) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(symbols, EMBEDDED)
        self.lstm = undertow.LSTM(EMBEDDED, WIDTHS, **options)
        self.head = torch.nn.Linear(WIDTHS[-1], symbols)
        self.carried = self.lstm.stateful()

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """[T,N] -> scores of the next symbol [T,N,K], going on from the text before."""
        return self.head(self.carried(self.embedding(text))[0])

    def loss(self, text: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self(text[:-1]).flatten(0, 1), text[1:].flatten())


def train(train_text: torch.Tensor, test_text: torch.Tensor, epochs: int, **options: float) -> float:
    """The best of the epochs' bits per character on ``test_text``."""
    torch.manual_seed(0)
    model = Model(int(max(train_text.max(), test_text.max())) + 1, **options)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    T = len(train_text) // STREAMS
    streams = train_text[: T * STREAMS].view(STREAMS, T).T  # [T,N], each column a stretch of the text
    best = math.inf
    for _ in range(epochs):
        model.train().carried.reset()  # the beginning of the text
        for t in range(0, T - 1, STEPS):
            optimizer.zero_grad()
            model.loss(streams[t : t + STEPS + 1]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        model.eval().carried.reset()
        with torch.no_grad():
            best = min(best, model.loss(test_text[:, None]).item() / math.log(2))
    return best


def main(path: Path, epochs: int) -> None:
    characters = path.read_text(encoding="utf-8")
    known = sorted(set(characters))
    text = torch.tensor([known.index(character) for character in characters])
    parts = text.split([len(text) * 9 // 10, len(text) - len(text) * 9 // 10])
    for name, options in {"without dropout": {}, "with dropout": DROPOUT}.items():
        print(f"{name}: {train(*parts, epochs, **options):.2f} bits per character")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else LICENCE, int(sys.argv[2]) if len(sys.argv) > 2 else 60)
