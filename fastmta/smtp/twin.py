"""Which of two implementations runs: the compiled one, or its Python twin (the specification).

The environment is read here, once, when the package is imported: FASTMTA_PURE=1 chooses the twins.
"""

import os

IS_PURE = os.environ.get("FASTMTA_PURE") == "1"
