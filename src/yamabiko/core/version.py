"""Which version of Yamabiko this is, as peers and other nodes are told."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("yamabiko")
except PackageNotFoundError:  # run from its sources
    VERSION = "0"
