"""What a package says of itself: the kernel's arguments and their places, the partition, and reading it back."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu.xdna import emulator, packaging
from streaming.errors import ModelError


def metadata(name: str = packaging.KERNEL, number: str = packaging.KERNEL_ID, arguments: int = 8) -> str:
    """EMBEDDED_METADATA as xclbinutil writes it from a kernel."""
    given = "".join(f'<arg name="a{i}" id="{i}"/>' for i in range(arguments))
    extended = f'<extended-data subtype="1" functional="0" dpu_kernel_id="{number}"/>'
    kernel = (
        f'<kernel name="{name}" language="c" type="dpu">{extended}{given}<instance name="MLIRAIE"/></kernel>'
    )
    return f"<project><platform><device><core>{kernel}</core></device></platform></project>"


def test_the_arguments() -> None:
    """Follow each other without gaps: opcode, instructions, their size, then a pointer for each buffer."""
    (kernel,) = packaging.kernels(6)["ps-kernels"]["kernels"]
    arguments = kernel["arguments"]
    assert [each["name"] for each in arguments] == [
        "opcode",
        "instr",
        "ninstr",
        *(f"bo{i}" for i in range(6)),
    ]
    places = [int(each["offset"], 16) for each in arguments]
    assert places == [0, 8, 16, *range(20, 20 + 6 * 8, 8)]
    assert [each.get("memory-connection") for each in arguments[:4]] == [None, "SRAM", None, "HOST"]
    assert [each["address-qualifier"] for each in arguments[:4]] == ["SCALAR", "GLOBAL", "SCALAR", "GLOBAL"]


def test_the_kernel() -> None:
    """Has the name that the runtime asks for, and the kind and number by which the driver finds its code."""
    (kernel,) = packaging.kernels(5)["ps-kernels"]["kernels"]
    assert kernel["name"] == emulator.KERNEL == packaging.KERNEL
    assert kernel["type"] == "dpu"
    assert kernel["extended-data"] == {"subtype": "DPU", "functional": "0", "dpu_kernel_id": "0x901"}
    assert [each["name"] for each in kernel["instances"]] == ["MLIRAIE"]


@pytest.mark.parametrize(("most", "declared"), [(0, 5), (3, 5), (5, 5), (6, 6), (16, 16)])
def test_the_number_of_buffers(most: int, declared: int) -> None:
    """Is that of the longest sequence, and no less than runs in lists need."""
    assert packaging.declared_buffers(most) == declared


def test_more_buffers_than_a_package_declares() -> None:
    """Are refused."""
    with pytest.raises(ModelError, match="17 buffers, and a package can declare 16"):
        packaging.declared_buffers(17)


def test_the_memories() -> None:
    """Are those that arguments connect to."""
    topology = packaging.memories()["mem_topology"]
    tags = {each["m_tag"] for each in topology["m_mem_data"]}
    (kernel,) = packaging.kernels(5)["ps-kernels"]["kernels"]
    assert tags == {each["memory-connection"] for each in kernel["arguments"] if "memory-connection" in each}
    assert topology["m_count"] == str(len(topology["m_mem_data"]))


def test_the_partition(tmp_path: Path) -> None:
    """Takes all four columns, and joins the image to the kernel by the kernel's number; an image names itself."""
    image, other = tmp_path / "a.pdi", tmp_path / "b.pdi"
    image.write_bytes(b"configuration")
    other.write_bytes(b"another")
    found = packaging.partition(image)["aie_partition"]
    assert found["partition"] == {"column_width": 4, "start_columns": [0]}
    (pdi,) = found["PDIs"]
    (group,) = pdi["cdo_groups"]
    assert pdi["file_name"] == str(image)
    assert (group["type"], group["dpu_kernel_ids"]) == ("PRIMARY", [packaging.KERNEL_ID])
    assert packaging.partition(image) == packaging.partition(image)
    assert pdi["uuid"] != packaging.partition(other)["aie_partition"]["PDIs"][0]["uuid"]


def test_the_image() -> None:
    """Names the parts of the configuration in their order."""
    said = packaging.image_description([Path("/w/elfs.bin"), Path("/w/init.bin")])
    assert said.index("file=/w/elfs.bin") < said.index("file=/w/init.bin")
    assert said.count("{") == said.count("}") == 3


def test_reading_it_back() -> None:
    """A kernel with its number and arguments is what XRT finds."""
    packaging.must_declare(metadata(), 5)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (metadata(name="other"), "names no kernel MLIR_AIE"),
        (metadata(number="0x902"), "with the number 0x901"),
        (metadata().replace("<extended-data", "<nothing"), "names no kernel"),
        (metadata(arguments=7), "declares 7 arguments of its kernel, 8 are needed"),
        ("<project>", "cannot be read"),
    ],
)
def test_metadata_that_xrt_would_not_take(said: str, sentence: str) -> None:
    """Is found before a package leaves the build."""
    with pytest.raises(ModelError, match=sentence):
        packaging.must_declare(said, 5)
