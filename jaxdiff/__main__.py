"""`python -m jaxdiff` is the command `jaxdiff`."""

from jaxdiff.cli import console

if __name__ == '__main__':
    console()
