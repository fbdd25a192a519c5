"""Redis or Valkey: one server, one that Sentinel watches, or a cluster, for any number of processes and machines."""

from yamabiko.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
