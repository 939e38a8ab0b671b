"""Write the small designs as MLIR, in both forms: `python tests/npu/xdna/golden/make.py`. Read what changed."""

import runpy
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Those of the tests beside this folder."""
    tests = runpy.run_path(str(HERE.parent / "test_mlir.py"))
    for name, design in tests["SMALL"].items():
        (HERE / f"{name}.mlir").write_text(tests["text"](design()), "utf-8")
        (HERE / f"{name}.generic.mlir").write_text(tests["text"](design(), generic=True), "utf-8")


if __name__ == "__main__":
    main()
