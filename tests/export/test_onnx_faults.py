"""Files of ONNX that compute for ever, or give something else than an image: refused in a line."""

from pathlib import Path

import pytest
from faults import ends_within

import ssiu.export.onnx
from ssiu.errors import BadInputError
from ssiu.export.onnx import OnnxNetwork

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")

HEAD = """<ir_version: 9, opset_import: ["" : 17, "f" : 1], metadata_props: ["scale": "2", "size_multiple": "1"]>
g (float[1,3,h,w] lr) => (%s sr) <float[4] sizes = {1,1,2,2}, int64 n = {1000000000000000}, bool yes = {1}> {
"""
RESIZE = 'sr = Resize <mode: string = "nearest"> (y, "", sizes) }'
LOOP = """y = Loop (n, yes, lr) <body: graph = b (int64 i, bool go, float[1,3,h,w] x) => (bool on, float[1,3,h,w] z)
{ on = Identity (go) z = Sin (x) }> """
FUNCTION = '<domain: "f", opset_import: ["" : 17, "f" : 1]> f%d (x) => (y) { t = f.f%d (x) y = f.f%d (t) }'
LAST = '<domain: "f", opset_import: ["" : 17]> f40 (x) => (y) { y = Sin (x) }'
IMAGE = "float[1,3,H,W]"

FILES = {
    "a loop": (HEAD % IMAGE + LOOP + RESIZE, "computes for more than 1 s on an image of 5x7 pixels"),
    "functions": (
        "\n".join([HEAD % IMAGE + "y = f.f0 (lr) " + RESIZE, *(FUNCTION % (i, i + 1, i + 1) for i in range(40)), LAST]),
        "lacks our metadata or defines functions",
    ),
    "a sequence": (HEAD % "seq(float[1,3,h,w])" + "sr = SequenceConstruct (lr, lr) }", "a list, expected float32"),
    "integers": (HEAD % "int64[4]" + "sr = Shape (lr) }", r"int64 \(4,\), expected float32"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_program_that_is_no_network_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, name: str
) -> None:
    monkeypatch.setattr(ssiu.export.onnx, "TRIAL_SECONDS", 1)
    text, reason = FILES[name]
    (tmp_path / "evil.onnx").write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with ends_within(60), pytest.raises(BadInputError, match=rf"evil\.onnx is damaged.*{reason}"):
        OnnxNetwork(tmp_path / "evil.onnx")
    assert capfd.readouterr() == ("", "")
