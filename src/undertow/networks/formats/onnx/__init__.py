"""ONNX models: reading, by the operators in layers, arithmetic and layout; writing."""

from undertow.networks.formats.onnx.reading import from_bytes
from undertow.networks.formats.onnx.writing import to_bytes

__all__ = ["from_bytes", "to_bytes"]
