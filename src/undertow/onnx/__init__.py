"""ONNX models, one LSTM or RNN node for each layer, compared in ONNX Runtime before they are written.

``export`` is for PyTorch programs that hold undertow's layers; the numbers of steps and sequences stay free.
``write`` is for networks of run folders and files. ``translations`` is for those who call
``torch.onnx.export`` themselves.
"""

from undertow.onnx.exporting import Exported, export
from undertow.onnx.networks import Written, write
from undertow.onnx.translation import translations

__all__ = ["Exported", "Written", "export", "translations", "write"]
