"""The sizes of a database's pools and caches, which can be changed while it is open."""

from typing import TYPE_CHECKING, Any

from perdure.db.policy import CachePolicy

if TYPE_CHECKING:
    from perdure.db.pool import ConnectionPool
    from perdure.db.shared import Shared

__all__ = ["Settings"]


class Settings:
    """The part of a database that knows how much it may keep."""

    _shared: "Shared"
    _cache_policy: CachePolicy
    _historical_cache_policy: CachePolicy
    pool: "ConnectionPool"
    historical_pool: "ConnectionPool"
    _activity_monitor: Any = None

    def getPoolSize(self) -> int:
        """Return how many open connections are expected at most."""
        return self.pool.size

    def setPoolSize(self, size: int) -> None:
        """Set how many open connections are expected at most."""
        self._resize(self.pool, size)

    def getHistoricalPoolSize(self) -> int:
        """Return how many open connections to past states are expected at most."""
        return self.historical_pool.size

    def setHistoricalPoolSize(self, size: int) -> None:
        """Set how many open connections to past states are expected at most."""
        self._resize(self.historical_pool, size)

    def getHistoricalTimeout(self) -> float:
        """Return how long an idle connection to a past state is kept, in seconds."""
        return self.historical_pool.timeout

    def setHistoricalTimeout(self, timeout: float) -> None:
        """Set how long an idle connection to a past state is kept, in seconds."""
        self.historical_pool.timeout = timeout
        self._trim()

    def getCacheSize(self) -> int:
        """Return how many objects a connection's cache shrinks to."""
        return self._cache_policy.objects_max

    def setCacheSize(self, size: int) -> None:
        """Set how many objects a connection's cache shrinks to."""
        self._cache_policy.objects_max = size
        for connection in self.pool:
            connection._cache.cache_size = self._cache_policy.objects_max

    def getCacheSizeBytes(self) -> int:
        """Return how many bytes a connection's cache shrinks to; 0: no limit."""
        return self._cache_policy.bytes_max

    def setCacheSizeBytes(self, size: int) -> None:
        """Set how many bytes a connection's cache shrinks to; 0: no limit."""
        self._cache_policy.bytes_max = size
        for connection in self.pool:
            connection._cache.cache_size_bytes = self._cache_policy.bytes_max

    def getHistoricalCacheSize(self) -> int:
        """Return `getCacheSize` for connections to past states."""
        return self._historical_cache_policy.objects_max

    def setHistoricalCacheSize(self, size: int) -> None:
        """Set what `getHistoricalCacheSize` returns."""
        self._historical_cache_policy.objects_max = size
        for connection in self.historical_pool:
            connection._cache.cache_size = self._historical_cache_policy.objects_max

    def getHistoricalCacheSizeBytes(self) -> int:
        """Return `getCacheSizeBytes` for connections to past states."""
        return self._historical_cache_policy.bytes_max

    def setHistoricalCacheSizeBytes(self, size: int) -> None:
        """Set what `getHistoricalCacheSizeBytes` returns."""
        self._historical_cache_policy.bytes_max = size
        for connection in self.historical_pool:
            connection._cache.cache_size_bytes = self._historical_cache_policy.bytes_max

    def getActivityMonitor(self) -> Any:
        """Return what is told of every connection that is closed, or None."""
        return self._activity_monitor

    def setActivityMonitor(self, am: Any) -> None:
        """Have `am.closedConnection(connection)` called for each that is closed."""
        self._activity_monitor = am

    def _resize(self, pool: "ConnectionPool", size: int) -> None:
        pool.size = size
        self._trim()

    def _trim(self) -> None:
        self._shared.release_superfluous(self.pool, self.historical_pool)
