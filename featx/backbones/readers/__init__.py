"""Read the weights of a backbone from torch, safetensors, Keras and ONNX files."""
