"""`python -m seqjax.interop.keras show FILE`: what a file of Keras holds."""

import sys

from seqjax.interop.keras.load import main

sys.exit(main())
