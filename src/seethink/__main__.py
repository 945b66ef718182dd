"""`python -m seethink`: the same as the command `seethink`."""

from seethink.cli.main import main

if __name__ == "__main__":
    main()
