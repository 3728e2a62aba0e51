"""On a GPU: cuDNN's baseline, the kernels' results against float64, the app's training, and times."""
