"""`python -m seethink`: the same as the command `seethink`."""

from seethink.cli.main import command

if __name__ == "__main__":
    command()
