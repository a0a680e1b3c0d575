"""Polyphonic music as piano rolls: which of 88 keys sound in each frame."""

import numpy as np

NUM_KEYS = 88
LOWEST_NOTE = 21  # MIDI's number of the first key, A0

Roll = np.ndarray  # bool [T, 88]
