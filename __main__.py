"""`python -m mutoscope`, and the command `mutoscope`."""

from .interruption import leave_when_interrupted


def main() -> None:
    """Import the command line and run it."""
    leave_when_interrupted()
    from .cli import main as run

    run()


if __name__ == "__main__":
    main()
