"""One pass on one file: the same graph as in the pipeline; anything else is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bhpe_compile.check.inspect.run_pass import run_pass
from bhpe_compile.cli.main import main
from bhpe_compile.errors import InputError, UsageError
from bhpe_compile.passes.fold import fold_passes
from tests.passes.fold.graphs import Builder, op_types, run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    b = Builder(1)
    y = b.batch_norm(b.dense(b.input("x", (1, 3, 8, 8)), "stem", 8), "norm")
    ir.save(b.build(y), tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def test_the_result_is_that_of_the_pipeline(source: Path) -> None:
    done = run_pass("fold-batch-norm", source)
    model = ir.from_proto(onnx.load_from_string(done.content))
    assert op_types(model) == ["Conv", "ChannelAffine"]
    assert (done.modified, [note.site for note in done.notes]) == (True, ["stem"])
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    before = run(ir.load(source), x)[0]
    np.testing.assert_allclose(run(model, x)[0], before, rtol=1e-5, atol=1e-5)  # the affine is rounded once


@pytest.mark.parametrize("name", [one.name for one in fold_passes({}, half=True)])
def test_every_fold_pass_runs(name: str, source: Path) -> None:
    onnx.checker.check_model(onnx.load_from_string(run_pass(name, source).content))


def test_a_lower_pass_leaves_kernel_nodes(source: Path) -> None:
    done = run_pass("select-kernels", source)
    assert done.assumed == ("packed weights", "explicit padding", "written means")
    assert {node.domain for node in onnx.load_from_string(done.content).graph.node} == {"", "bhpe.kernel"}


def test_shapes_are_inferred_where_they_are_missing(source: Path) -> None:
    proto = onnx.load(source)
    del proto.graph.value_info[:]
    onnx.save(proto, source)
    assert run_pass("fold-batch-norm", source).modified


def test_what_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="works on the torch graph"):
        run_pass("plain", source)
    with pytest.raises(UsageError, match="did you mean fold-threshold"):
        run_pass("fold-treshold", source)
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)))
    for name in ("empty.onnx", "noise.onnx"):
        with pytest.raises(InputError, match=f"{name}: is no ONNX file"):
            run_pass("clean-up", tmp_path / name)


def test_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    assert main(["passes", "--run", "fold-batch-norm", str(source), str(out)]) == 0
    printed = capsys.readouterr()
    assert "stem" in printed.out
    assert printed.err.endswith(f"changed; wrote {out}\n")
    assert out.exists()
    assert main(["passes", "--run", "fold-batch-norm", str(source)]) == 2
    assert "two files" in capsys.readouterr().err
    assert main(["passes", "--run", "plain", str(source), str(tmp_path / "no.onnx")]) == 2
    assert not (tmp_path / "no.onnx").exists()


def test_a_batch_norm_in_training_mode_is_not_folded(source: Path) -> None:
    proto = onnx.load(source)
    norm = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(onnx.helper.make_attribute("training_mode", 1))
    onnx.save(proto, source)
    done = run_pass("fold-batch-norm", source)
    assert op_types(ir.from_proto(onnx.load_from_string(done.content))) == ["Conv", "BatchNormalization"]
    assert (done.modified, [note.applied for note in done.notes]) == (False, [False])
    assert "training mode" in done.notes[0].reason


def test_a_file_whose_weights_are_inputs_is_named(source: Path) -> None:
    proto = onnx.load(source)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(
            onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    onnx.save(proto, source)
    with pytest.raises(InputError, match="IR version 3, where weights are inputs"):
        run_pass("fold-batch-norm", source)
