"""The demonstration that `perdure demo` runs, and the classes of the database that it leaves.

`Package`, `Maintainer` and `Counter` are ordinary persistent classes; `open_demo` opens the two
databases as one collection. Nothing here uses more than the public API.
"""

from perdure.demo.model import Counter, Dependency, Maintainer, Package
from perdure.demo.opening import Demo, DemoError, open_demo

__all__ = ["Counter", "Demo", "DemoError", "Dependency", "Maintainer", "Package", "open_demo"]
