"""`python -m darkroom` is the command `darkroom`."""

from darkroom.cli import run

if __name__ == "__main__":
    run()
