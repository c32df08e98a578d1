"""``python -m pseudoval``, where the installed command is not on the path."""

from pseudoval.cli.commands import main

if __name__ == "__main__":
    main()
