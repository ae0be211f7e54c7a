"""Export of encoders to ONNX, OpenVINO and torch.export files, and checks of these files."""
