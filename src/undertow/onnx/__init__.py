"""ONNX models of PyTorch programs that hold undertow's layers: one LSTM or RNN node for each layer.

``export`` leaves the numbers of steps and sequences free, and compares the model with the module in ONNX
Runtime. ``translations`` is for those who call ``torch.onnx.export`` themselves.
``undertow.networks.write`` writes networks of run folders and files, without PyTorch.
"""

from undertow.onnx.exporting import Exported, export
from undertow.onnx.translation import translations

__all__ = ["Exported", "export", "translations"]
