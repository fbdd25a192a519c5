"""`python -m yamabiko.client` is `yamabiko connect`."""

from yamabiko.client.command import connect

if __name__ == "__main__":
    connect.main(prog_name="python -m yamabiko.client")
