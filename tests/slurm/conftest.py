"""The data of the micro runs."""

from tests.train.conftest import one_class

__all__ = ["one_class"]
