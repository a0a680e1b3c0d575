"""Weights in and out: `seqjax.interop.keras`, `seqjax.interop.torch`, and
`seqjax.interop.linen`. Import the one that is needed; none of them imports Keras or
TensorFlow, and PyTorch and h5py are imported by the functions that need them.
"""
