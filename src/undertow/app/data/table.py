"""Soon."""


class ForecastTask:
    pass
