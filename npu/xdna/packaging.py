"""What a package says of itself beside the code of its cores: the kernel XRT is to find, what it is called with, where
buffers lie, and how wide it is. Without it the driver finds "No valid DPU kernel".

All of it is JSON for `xclbinutil`, which makes the sections of the package from it: MEM_TOPOLOGY and AIE_PARTITION as
they are, EMBEDDED_METADATA, IP_LAYOUT and CONNECTIVITY from the kernel. The values are those of mlir-aie 1.4
(`tools/aiecc/SidecarFiles.h`); what reads them is xclbinutil in XRT, and `hwctx.cpp` in the driver's shim.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from npu.xdna.target import NPU1
from streaming.errors import ModelError

KERNEL = "MLIR_AIE"  # what the runtime asks XRT for
KERNEL_ID = "0x901"  # joins the kernel to the code that the partition holds for it
LEAST_BUFFERS = 5  # XRT aborts runs of a list whose kernel declares fewer
MOST_BUFFERS = 16  # as many as mlir-aie has seen work

_INSTANCE = "MLIRAIE"
_POINTER = 8  # bytes
_LEADING = (  # arguments before the buffers: name, type, bytes, memory
    ("opcode", "uint64_t", 8, None),
    ("instr", "char *", _POINTER, "SRAM"),
    ("ninstr", "uint32_t", 4, None),
)
_ID_CODE, _EXTENDED_ID_CODE, _IMAGE_ID = "0x14ca8093", "0x01", "0x1c000000"  # of the device, for bootgen

Json = dict[str, Any]


def declared_buffers(most: int) -> int:
    """How many buffers a package declares whose longest sequence has `most`; ModelError where XRT takes no so many."""
    if most > MOST_BUFFERS:
        raise ModelError(f"a sequence has {most} buffers, and a package can declare {MOST_BUFFERS}")
    return max(LEAST_BUFFERS, most)


def kernels(buffers: int) -> Json:
    """For `--add-kernel`: one kernel, its arguments and their places in a command."""
    arguments, at = [], 0
    leading = [*_LEADING, *((f"bo{i}", "void*", _POINTER, "HOST") for i in range(buffers))]
    for name, kind, size, memory in leading:
        argument = {"name": name, "type": kind, "offset": hex(at)}
        argument["address-qualifier"] = "GLOBAL" if memory else "SCALAR"
        if memory:
            argument["memory-connection"] = memory
        arguments.append(argument)
        at += size
    kernel = {
        "name": KERNEL,
        "type": "dpu",
        "extended-data": {"subtype": "DPU", "functional": "0", "dpu_kernel_id": KERNEL_ID},
        "arguments": arguments,
        "instances": [{"name": _INSTANCE}],
    }
    return {"ps-kernels": {"kernels": [kernel]}}


def memories() -> Json:
    """For MEM_TOPOLOGY: the two names that arguments connect to; on this device both are the host's memory."""
    found = [
        {
            "m_type": "MEM_DRAM",
            "m_used": "1",
            "m_sizeKB": size,
            "m_tag": tag,
            "m_base_address": "0x4000000",
        }
        for tag, size in (("HOST", "0x10000"), ("SRAM", "0xc000"))
    ]
    return {"mem_topology": {"m_count": str(len(found)), "m_mem_data": found}}


def partition(pdi: Path) -> Json:
    """For AIE_PARTITION: the whole array, and the image that configures it, joined to the kernel by its number."""
    image = {
        "uuid": str(uuid.UUID(bytes=hashlib.sha256(pdi.read_bytes()).digest()[:16], version=4)),
        "file_name": str(pdi),
        "cdo_groups": [
            {
                "name": "DPU",
                "type": "PRIMARY",
                "pdi_id": "0x01",
                "dpu_kernel_ids": [KERNEL_ID],
                "pre_cdo_groups": ["0xC1"],
            }
        ],
    }
    return {
        "aie_partition": {
            "name": "QoS",
            "operations_per_cycle": "2048",
            "inference_fingerprint": "23423",
            "pre_post_fingerprint": "12345",
            "partition": {"column_width": NPU1.columns, "start_columns": [0]},
            "PDIs": [image],
        }
    }


def image_description(parts: Iterable[Path]) -> str:
    """What bootgen is to join into one image: the configuration of the array, in files that are done in this order."""
    files = "".join(f"      file={part}\n" for part in parts)
    return (
        "all:\n{\n"
        f"  id_code = {_ID_CODE}\n  extended_id_code = {_EXTENDED_ID_CODE}\n"
        f"  image\n  {{\n    name=aie_image, id={_IMAGE_ID}\n    {{ type=cdo\n{files}    }}\n  }}\n}}\n"
    )


def must_declare(metadata: str, buffers: int) -> None:
    """Reads EMBEDDED_METADATA back, which is XML; ModelError where XRT would not find the kernel in it, or too few
    arguments.
    """
    try:
        found = ElementTree.fromstring(metadata).iter("kernel")
    except ElementTree.ParseError as error:
        raise ModelError(f"the package's EMBEDDED_METADATA cannot be read ({error})") from error
    for kernel in found:
        extended = kernel.find("extended-data")
        number = None if extended is None else extended.get("dpu_kernel_id")
        if (kernel.get("name"), number) != (KERNEL, KERNEL_ID):
            continue
        wanted, given = len(_LEADING) + buffers, len(kernel.findall("arg"))
        if given != wanted:
            raise ModelError(f"the package declares {given} arguments of its kernel, {wanted} are needed")
        return
    raise ModelError(
        f"the package names no kernel {KERNEL} with the number {KERNEL_ID} in its EMBEDDED_METADATA: "
        "this xclbinutil does not know kernels of NPUs; take the one of XRT 2.16 or later"
    )
