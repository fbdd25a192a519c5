"""`python -m yamabiko` is `yamabiko`."""

from yamabiko.cli import main

if __name__ == "__main__":
    main.main(prog_name="python -m yamabiko")
