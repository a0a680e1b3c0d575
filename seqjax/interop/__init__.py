"""Weights in and out: `seqjax.interop.keras`, `seqjax.interop.torch`, and
`seqjax.interop.linen`. Import the one that is needed; none of them imports Keras or
TensorFlow, and PyTorch, h5py and safetensors are imported by the functions that need
them.
"""
