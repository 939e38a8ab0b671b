"""The devices behind `npu.model.Backend`."""
