"""Soon."""


class SequenceTask:
    pass
