"""flair: a sequence tagger, bidirectional LSTM with CRF, trained on a generated language."""

import random
from pathlib import Path
from typing import Any

import flair
import torch
from flair.datasets import ColumnCorpus
from flair.embeddings import OneHotEmbeddings
from flair.models import SequenceTagger
from flair.trainers import ModelTrainer

from client import SEED, main

WORDS = {kind: [f"{kind.lower()}{n}" for n in range(40)] for kind in ("DET", "ADJ", "NOUN", "VERB")}


def sentence(draw: random.Random) -> list[tuple[str, str]]:
    """A noun phrase, a verb and often another; some words may be noun or verb, as their place tells."""
    kinds = []
    for _ in range(draw.randint(1, 5)):
        kinds += ["DET", *["ADJ"] * draw.randint(0, 3), "NOUN", "VERB"]
    shared = {"NOUN": WORDS["NOUN"] + WORDS["VERB"][:20], "VERB": WORDS["VERB"] + WORDS["NOUN"][:20]}
    return [(draw.choice(shared.get(kind, WORDS[kind])), kind) for kind in kinds]


def prepare() -> ColumnCorpus:
    draw = random.Random(0)
    for name, count in {"train": 400, "dev": 50, "test": 50}.items():
        sentences = ["\n".join(f"{word} {kind}" for word, kind in sentence(draw)) for _ in range(count)]
        Path(f"{name}.txt").write_text("\n\n".join(sentences) + "\n")
    return ColumnCorpus(
        ".", {0: "text", 1: "pos"}, train_file="train.txt", dev_file="dev.txt", test_file="test.txt"
    )


def train(corpus: ColumnCorpus) -> dict[str, Any]:
    flair.set_seed(SEED)
    flair.device = torch.device("cpu")
    tagger = SequenceTagger(
        hidden_size=128,
        embeddings=OneHotEmbeddings.from_corpus(corpus, embedding_length=100),
        tag_dictionary=corpus.make_label_dictionary("pos", add_unk=False),
        tag_type="pos",
        rnn_layers=1,
    )
    result = ModelTrainer(tagger, corpus).train("out", learning_rate=0.1, mini_batch_size=32, max_epochs=5)
    lines = [line.split("\t") for line in Path("out/loss.tsv").read_text().splitlines()]
    column = lines[0].index("TRAIN_LOSS")
    return {
        "weights": torch.cat([p.detach().ravel() for p in tagger.rnn.parameters()]),
        "training losses": [float(line[column]) for line in lines[1:]],
        "test score": [result["test_score"]],
    }


main("flair", "SequenceTagger, bidirectional LSTM of 128 units and CRF, 5 epochs", prepare, train)
