"""The marker of what cannot run under a sanitizer; sanitize.sh leaves those tests out."""


def pytest_configure(config):
    config.addinivalue_line("markers", "sanitizer_conflict: forks or measures time, which a sanitizer upsets")
