"""Numbers and keeps publications in a file of this machine: acknowledged means on disk."""

from yamabiko.brokers.sqlite.broker import SqliteBroker as SqliteBroker
