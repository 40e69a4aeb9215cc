"""Each method that ZODB documents is there, and is called as stock's is."""

import ast

import pytest
from tests.interop.programs import run_code

DB = """
    cacheDetail cacheDetailSize cacheExtremeDetail cacheMinimize cacheSize close
    connectionDebugInfo getCacheSize getCacheSizeBytes getHistoricalCacheSize
    getHistoricalCacheSizeBytes getHistoricalPoolSize getHistoricalTimeout getName getPoolSize
    getSize history lastTransaction objectCount open pack setCacheSize setCacheSizeBytes
    setHistoricalCacheSize setHistoricalCacheSizeBytes setHistoricalPoolSize setHistoricalTimeout
    setPoolSize supportsUndo transaction undo undoInfo undoLog undoMultiple
"""
CONNECTION = """
    add cacheGC cacheMinimize close db get getDebugInfo get_connection isReadOnly oldstate
    onCloseCallback setDebugInfo sync
"""
STORAGE = "__len__ close getName getSize history isReadOnly lastTransaction sortKey"
FILE = f"{STORAGE} pack iterator undoInfo undoLog record_iternext temporaryDirectory"
CONFIG = """
    databaseFromString databaseFromFile databaseFromURL storageFromString storageFromFile
    storageFromURL
"""
DOCUMENTED = {
    "ZODB.DB": DB,
    "ZODB.Connection.Connection": CONNECTION,
    "FileStorage": FILE,
    "ZODB.MappingStorage.MappingStorage": f"{STORAGE} pack",
    "ZODB.DemoStorage.DemoStorage()": f"{STORAGE} pop push",
    "ZODB.config": CONFIG,
    "ZODB.TimeStamp.TimeStamp(2026, 1, 2)": "day hour laterThan minute month raw second timeTime year",
}
NOT_TOLD = {"args", "kw", "self"}


def signatures(place: str, names: str, *, alias: bool) -> dict[str, list[str]]:
    """Return the parameters' names of methods, as far as Python knows them."""
    code = f"""
        import inspect, warnings
        warnings.simplefilter("ignore")
        import ZODB, ZODB.DemoStorage, ZODB.FileStorage, ZODB.MappingStorage, ZODB.TimeStamp
        import ZODB.config, ZODB.Connection
        from ZODB.FileStorage import FileStorage
        owner = {place}
        found = {{}}
        for name in {names.split()!r}:
            assert callable(getattr(owner, name)), name
            try:
                found[name] = list(inspect.signature(getattr(owner, name)).parameters)
            except ValueError:
                found[name] = []
        print(found)
    """
    found: dict[str, list[str]] = ast.literal_eval(run_code(code, alias=alias))
    return found


@pytest.mark.parametrize("place", DOCUMENTED)
def test_what_is_documented_is_there_and_called_as_in_stock(place: str) -> None:
    ours = signatures(place, DOCUMENTED[place], alias=True)
    for name, stocks in signatures(place, DOCUMENTED[place], alias=False).items():
        wanted = [each for each in stocks if each not in NOT_TOLD]
        given = [each for each in ours[name] if each not in NOT_TOLD]
        assert given[: len(wanted)] == wanted, name
