"""What is to be known of operators beside ONNX's specification; of it `tools/operators_page.py` makes a page.

What is not taken, and what was decided where the specification leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAN = "What is no number wins, as in Max: ONNX Runtime passes over it in some windows and not in others."
_IMAGES = "Signals [N,C,W] and images [N,C,H,W]."
_INFINITE = (
    " Weights that are not finite are refused in files. Where they are computed, padding counts as zeros: times "
    "infinity they are no number; C refuses such weights."
)
_CAST = (
    "To bool, 0 is false, anything else true, NaN too. A float becomes an integer of at least 32 bits first: its "
    "integer part, the nearest end of the range beyond it, 0 for NaN; that wraps in fewer bits. So 200.0 is -56 in "
    "int8 and 3e9 is 2,147,483,647 in int32; NaN is 0. ONNX leaves all of it undefined; within 32 bits ONNX Runtime "
    "does the same on x86, beyond them it differs between processors. The first integer has 64 bits for uint32, int64 "
    "and uint64."
)

#: By operator of ONNX's own domain.
NOTES: Mapping[str, str] = {
    "Abs": "Of both zeros 0. Of the lowest integer itself.",
    "Attention": "One head of keys for each of queries; no cache, no softcap; float32. Rows that are masked out are 0.",
    "AveragePool": (
        _IMAGES
        + " With ceil_mode the pads that are given count where count_include_pad says so, those that rounding up "
        "needs never do: as in ONNX Runtime and PyTorch."
    ),
    "BatchNormalization": "Inference only.",
    "Cast": _CAST,
    "CastLike": "As Cast.",
    "Celu": "Of 16-bit floats computed in float32 and rounded once, as all elementwise operators.",
    "Clip": "A bound that is missing is none: what is infinite stays so, where ONNX has the type's last finite number.",
    "Conv": _IMAGES + _INFINITE,
    "ConvTranspose": _IMAGES + _INFINITE + " So are the zeros between the pixels.",
    "DequantizeLinear": (
        "Per tensor or per axis. Scales may be negative or 0. Constants with such scales get positive ones where their "
        "dtype holds the negated integers; what else has them stays float."
    ),
    "Dropout": "Inference only.",
    "GRU": "Default activations; no clip, no layout=1, sequences of one length.",
    "Gather": "Indices beyond the axis are an error where they are constants.",
    "GatherElements": "Of constants.",
    "GlobalMaxPool": _NAN,
    "If": "With a condition that is known while importing; the other branch may hold anything.",
    "LSTM": "Default activations; no clip, peepholes, input_forget or layout=1; sequences of one length.",
    "LayerNormalization": "The first result; the others may be named where nobody reads them.",
    "MatMul": "Floats, and integers of up to 16 bits.",
    "MaxPool": _IMAGES + " The first result. " + _NAN,
    "Min": "Which zero the smaller of 0 and -0 is, is not said.",
    "Max": "NaN where an operand is. Which zero the larger of 0 and -0 is, is not said.",
    "Mod": "Of constants. Of infinities, and of floats by 0, no number.",
    "Pow": "Of floats; of integers where they are constants.",
    "QuantizeLinear": "Per tensor or per axis, to integers of up to 16 bits, with positive scales.",
    "RNN": "Tanh or Relu; no clip, no layout=1, sequences of one length.",
    "ReduceLogSumExp": "Of a row with inf it is inf, of nothing but -inf it is -inf: as in ONNX Runtime.",
    "ReduceMax": _NAN,
    "ReduceMin": "Floats. " + _NAN,
    "ReduceProd": "Of constants.",
    "Resize": (
        "Rows and columns of images, nearest or linear. align_corners with scales takes whole sizes only: the "
        "specification's text divides by the rounded size, as ONNX Runtime does, its test by the unrounded one. Where "
        "two pixels are equally near, ONNX Runtime's measure of equal decides."
    ),
    "Softmax": "NaN throughout a row that holds NaN or inf, or nothing but -inf.",
    "SplitToSequence": "Where SequenceAt with a constant takes it apart.",
}
