"""``python -m ssiu COMMAND``: the command line of a clone, where nothing is installed."""

from ssiu.cli import entry_point

if __name__ == "__main__":
    entry_point()
