"""Encoders as ONNX, OpenVINO and torch.export files, and what checks them."""
