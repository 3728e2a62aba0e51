"""Other libraries that run an LSTM on the CPU, inference only, if they are installed.

Both read the same ONNX model, which the ``onnx`` package writes. None of the three is a dependency.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from undertow.app.bench.speed import Contestant, Results, Task, seconds

OUTPUTS = ("y", "h_n", "c_n")


def available() -> list[Contestant]:
    """List the libraries that are installed, as contestants; none without the ``onnx`` package."""
    found: list[Contestant] = []
    if find_spec("onnx"):
        found += [_OnnxRuntime()] if find_spec("onnxruntime") else []
        found += [_OpenVino()] if find_spec("openvino") else []
    return found


class _Peer:
    trains = False
    _call: Callable[[], Any]

    def seconds(self, count: int) -> float:
        return seconds(self._call, count)


class _OnnxRuntime(_Peer):
    name = "ONNX Runtime"

    def prepare(self, task: Task) -> Results:
        runtime: Any = import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
        # its threads would spin for another 40 ms, into the others' turns; its own turn stays the same
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = runtime.InferenceSession(_onnx_model(task), options, ["CPUExecutionProvider"])
        inputs = {"x": task.x.numpy()}
        self._call = lambda: session.run(OUTPUTS, inputs)
        return _as_results(self._call())


class _OpenVino(_Peer):
    name = "OpenVINO"

    def prepare(self, task: Task) -> Results:
        openvino: Any = import_module("openvino")
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # otherwise it uses bfloat16 if the processor has it
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": task.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # a pinned thread of this process would be pinned for the others too
        }
        request = core.compile_model(
            core.read_model(_onnx_model(task)), "CPU", settings
        ).create_infer_request()
        inputs = {"x": task.x.numpy()}
        self._call = lambda: request.infer(inputs, share_inputs=True, share_outputs=True)
        outputs = self._call()
        return _as_results([outputs[name] for name in OUTPUTS])


def _as_results(outputs: list[Any]) -> Results:
    return {name: torch.tensor(a) for name, a in zip(OUTPUTS, outputs, strict=True)}


def _onnx_model(task: Task) -> bytes:
    """The layers of the task's shape, each an LSTM node: x [T,N,C] -> y [T,N,D*H], h_n and c_n [L*D,N,H]."""
    onnx: Any = import_module("onnx")
    make, to_array = onnx.helper, onnx.numpy_helper.from_array
    shape = task.shape
    T, N, D = shape.T, shape.N, 2 if shape.bidirectional else 1
    blocks = shape.num_layers * D
    direction = "bidirectional" if shape.bidirectional else "forward"
    constants = [to_array(np.array([T, N, D * shape.H]), "flat")]
    nodes = []
    x = "x"
    for k in range(shape.num_layers):
        names = [f"{name}{k}" for name in ("W", "R", "B", "Y", "Y_h", "Y_c", "Z", "y")]
        W, R, B, Y, h, c, Z, y = names
        y = "y" if k == shape.num_layers - 1 else y
        constants += map(to_array, layer_weights(task, k), (W, R, B))
        lstm = {"hidden_size": shape.H, "direction": direction}
        nodes += [
            make.make_node("LSTM", [x, W, R, B], [Y, h, c], **lstm),  # Y [T,D,N,H]
            make.make_node("Transpose", [Y], [Z], perm=[0, 2, 1, 3]),
            make.make_node("Reshape", [Z, "flat"], [y]),
        ]
        x = y
    for output, name in (("h_n", "Y_h"), ("c_n", "Y_c")):
        states = [f"{name}{k}" for k in range(shape.num_layers)]
        nodes.append(make.make_node("Concat", states, [output], axis=0))
    sizes = {"y": [T, N, D * shape.H], "h_n": [blocks, N, shape.H], "c_n": [blocks, N, shape.H]}
    tensor = make.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    inputs = [tensor("x", kind, [T, N, shape.C])]
    outputs = [tensor(name, kind, sizes[name]) for name in OUTPUTS]
    graph = make.make_graph(nodes, "lstm", inputs, outputs, constants)
    # versions that every release of the last years reads
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    return bytes(model.SerializeToString())


def layer_weights(task: Task, layer: int) -> list[Any]:
    """Bring a layer's weights into ONNX's order of gates: i, o, f, c.

    Args:
        task: The task, whose weights are a state_dict of nn.LSTM.
        layer: The number of the layer, from 0.

    Returns:
        W [D,4H,C], R [D,4H,H] and B [D,8H]; D is 2 if the layer is bidirectional.
    """

    def stacked(name: str) -> Any:
        ends = ["", "_reverse"] if task.shape.bidirectional else [""]
        weights = [task.weights[f"{name}_l{layer}{end}"].numpy() for end in ends]
        ordered = []
        for w in weights:
            i, f, g, o = np.split(w, 4)
            ordered.append(np.concatenate([i, o, f, g]))
        return np.stack(ordered)

    biases = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    return [stacked("weight_ih"), stacked("weight_hh"), biases]
