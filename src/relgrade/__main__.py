"""`python -m relgrade` is the command `relgrade`."""

from relgrade.cli.main import main

if __name__ == "__main__":
    main(prog_name="relgrade")
