"""``python -m sam3`` is the ``sam3`` command."""

from sam3.cli import entry_point

if __name__ == "__main__":
    entry_point()
