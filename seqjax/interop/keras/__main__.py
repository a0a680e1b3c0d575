"""`python -m seqjax.interop.keras FILE`: what a file of Keras holds."""

import sys

from seqjax.interop.keras.load import main

sys.exit(main())
