"""Products at each precision; 8-bit ones lose little, and no token pays for another."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from sentiment.errors import ModelError
from sentiment.t5.linear import (
    ActivatedLinear,
    Activation,
    DenseLinear,
    Int8Linear,
    PackedLinear,
    ResolvedPrecision,
    activate,
    compute_dtype,
    make_linear,
)

ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda y: y,
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda y: F.gelu(y, approximate="tanh"),
    "silu": F.silu,
}

# torch builds for other processors may lack oneDNN, and with it packed and 8-bit products.
needs_onednn = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="products of oneDNN"
)


@pytest.fixture
def weight_ND() -> torch.Tensor:
    """Rows of very different size, as a folded norm leaves them."""
    random = torch.Generator().manual_seed(1)
    return torch.randn(96, 64, generator=random) * torch.logspace(-3, 2, 96)[:, None]


@pytest.fixture
def x_TD() -> torch.Tensor:
    return torch.randn(40, 64, generator=torch.Generator().manual_seed(2))


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest over tokens, so that none hides behind the others."""
    return float(((found.float() - exact).norm(dim=1) / exact.norm(dim=1)).max())


def test_the_dtype_between_products_follows_the_precision() -> None:
    assert compute_dtype("fp32") == torch.float32
    assert compute_dtype("bf16") == compute_dtype("int8") == torch.bfloat16


@pytest.mark.parametrize(("tanh_gelu", "on_cpu"), [(False, "relu"), (True, "gelu")])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_product_with_an_activation_at_its_end_equals_one_after_the_other(
    weight_ND: torch.Tensor,
    x_TD: torch.Tensor,
    precision: torch.dtype,
    tanh_gelu: bool,
    on_cpu: Activation,
) -> None:
    """A GPU's, whose operator the CPU has as well."""
    weight_ND = weight_ND.to(precision)
    activated = ActivatedLinear(weight_ND, tanh_gelu=tanh_gelu)
    found_TN = activated(x_TD)
    assert found_TN.dtype == precision
    assert relative_error(found_TN, DenseLinear(weight_ND, on_cpu)(x_TD).float()) < 1e-2
    by_fours = activated(x_TD.view(4, 10, -1))
    assert torch.equal(by_fours.view_as(found_TN), found_TN)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_float_product_is_that_of_torch(
    weight_ND: torch.Tensor, x_TD: torch.Tensor, dtype: torch.dtype
) -> None:
    exact_TN = F.linear(x_TD.to(dtype).float(), weight_ND)
    found_TN = make_linear(weight_ND, "fp32")(x_TD.to(dtype))
    assert found_TN.dtype == torch.float32
    assert relative_error(found_TN, exact_TN) < 1e-6
    rounded_TN = make_linear(weight_ND, "bf16")(x_TD.to(dtype))
    assert rounded_TN.dtype == torch.bfloat16
    assert 1e-4 < relative_error(rounded_TN, exact_TN) < 0.01


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_that_of_torch(activation: Activation, x_TD: torch.Tensor) -> None:
    torch.testing.assert_close(activate(x_TD.clone(), activation), ACTIVATIONS[activation](x_TD))


@pytest.mark.parametrize(
    ("precision", "bound"),
    [("fp32", 1e-6), ("bf16", 0.02), pytest.param("int8", 0.05, marks=needs_onednn)],
)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_product_ends_with_its_activation(
    activation: Activation, precision: ResolvedPrecision, bound: float, x_TD: torch.Tensor
) -> None:
    weight_ND = torch.randn(96, 64, generator=torch.Generator().manual_seed(3)) / 8
    exact_TN = ACTIVATIONS[activation](x_TD @ weight_ND.T)
    linear = make_linear(weight_ND, precision, activation=activation)
    assert relative_error(linear(x_TD), exact_TN) < bound
    # The kinds differ by more than they are rounded, except the two of GELU.
    for other, function in ACTIVATIONS.items():
        if {activation, other} != {"gelu", "gelu_tanh"} and other != activation:
            assert relative_error(linear(x_TD), function(x_TD @ weight_ND.T)) > 2 * bound


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_torch_without_packed_products_multiplies_all_the_same(
    activation: Activation,
    precision: ResolvedPrecision,
    weight_ND: torch.Tensor,
    x_TD: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is also how GPUs multiply."""
    usual_TN = make_linear(weight_ND, precision, activation=activation)(x_TD)

    def absent(*_: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no such attribute")

    monkeypatch.setattr(PackedLinear, "__init__", absent)
    dense = make_linear(weight_ND, precision, activation=activation)
    assert isinstance(dense, DenseLinear)
    dense_TN = dense(x_TD)
    assert dense_TN.dtype == usual_TN.dtype
    assert relative_error(dense_TN, usual_TN.float()) < (1e-6 if precision == "fp32" else 0.01)


@needs_onednn
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cpu_packs_its_weights(precision: ResolvedPrecision, weight_ND: torch.Tensor) -> None:
    """A fallback that nobody asked for would show as nothing but a slower run."""
    assert isinstance(make_linear(weight_ND, precision), PackedLinear)


def test_other_devices_get_the_plain_product() -> None:
    linear = make_linear(torch.empty(8, 4, device="meta"), "bf16")
    assert isinstance(linear, DenseLinear)
    assert linear(torch.empty(3, 4, device="meta")).shape == (3, 8)


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("int8", marks=needs_onednn)])
def test_a_product_takes_any_number_of_dimensions(
    precision: ResolvedPrecision, weight_ND: torch.Tensor, x_TD: torch.Tensor
) -> None:
    """The decoder's rows are sequences by nodes of its trie."""
    linear = make_linear(weight_ND, precision, activation="relu")
    found_BMN = linear(x_TD.view(8, 5, 64))
    assert found_BMN.shape == (8, 5, 96)
    torch.testing.assert_close(found_BMN.flatten(0, 1), linear(x_TD))


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("int8", marks=needs_onednn)])
def test_a_product_leaves_its_inputs_alone(
    precision: ResolvedPrecision, weight_ND: torch.Tensor, x_TD: torch.Tensor
) -> None:
    before = weight_ND.clone(), x_TD.clone()
    linear = make_linear(weight_ND, precision, activation="relu")
    first_TN = linear(x_TD)
    assert torch.equal(weight_ND, before[0])
    assert torch.equal(x_TD, before[1])
    assert torch.equal(linear(x_TD), first_TN)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_8_bit_product_is_near_the_exact_one(
    weight_ND: torch.Tensor, x_TD: torch.Tensor, dtype: torch.dtype
) -> None:
    linear = make_linear(weight_ND, "int8")
    assert isinstance(linear, Int8Linear)
    y_TN = linear(x_TD.to(dtype))
    assert (y_TN.dtype, y_TN.shape) == (torch.bfloat16, (40, 96))
    assert 0 < relative_error(y_TN, x_TD @ weight_ND.T) < 0.03


@needs_onednn
def test_every_output_has_a_scale_of_its_own(weight_ND: torch.Tensor, x_TD: torch.Tensor) -> None:
    """With one scale for all, the rows of 0.001 would vanish beside those of 100."""
    y_NT = make_linear(weight_ND, "int8")(x_TD).T
    assert relative_error(y_NT, (x_TD @ weight_ND.T).T) < 0.03


@needs_onednn
def test_a_loud_value_costs_its_own_token_little(
    weight_ND: torch.Tensor, x_TD: torch.Tensor
) -> None:
    """T5 has channels a hundred times louder than the rest."""
    x_TD[:, 7] *= 100
    exact_TN = x_TD @ weight_ND.T
    assert relative_error(make_linear(weight_ND, "int8")(x_TD), exact_TN) < 0.05


@needs_onednn
def test_a_loud_token_changes_no_other(weight_ND: torch.Tensor, x_TD: torch.Tensor) -> None:
    linear = make_linear(weight_ND, "int8")
    quiet_TN = linear(x_TD)
    loud_TD = x_TD.clone()
    loud_TD[11] *= 10_000
    loud_TN = linear(loud_TD)
    others = torch.arange(len(x_TD)) != 11
    assert torch.equal(loud_TN[others], quiet_TN[others])
    assert relative_error(loud_TN[11:12], loud_TD[11:12] @ weight_ND.T) < 0.03
    alone_TN = torch.cat([linear(token_D[None]) for token_D in x_TD])
    assert torch.equal(alone_TN, quiet_TN)


@needs_onednn
def test_nothing_in_is_nothing_out(weight_ND: torch.Tensor, x_TD: torch.Tensor) -> None:
    x_TD[3] = 0
    y_TN = make_linear(weight_ND, "int8")(x_TD)
    assert not y_TN[3].any()
    assert y_TN[2].all()
    weight_ND[5] = 0
    y_TN = make_linear(weight_ND, "int8")(x_TD)
    assert not y_TN[:, 5].any()
    assert torch.isfinite(y_TN).all()


@needs_onednn
def test_what_is_no_number_stays_none(weight_ND: torch.Tensor, x_TD: torch.Tensor) -> None:
    """An 8-bit integer cannot say NaN; the scale must, or garbage would look like a score."""
    x_TD[3, 8] = float("nan")
    x_TD[4, 8] = float("inf")
    y_TN = make_linear(weight_ND, "int8")(x_TD)
    assert not torch.isfinite(y_TN[3:5]).any()
    assert torch.isfinite(y_TN[:3]).all()


@needs_onednn
def test_what_is_never_negative_has_a_bit_more(weight_ND: torch.Tensor, x_TD: torch.Tensor) -> None:
    hidden_TD = torch.relu(x_TD)
    hidden_TD[3] = 0
    exact_TN = hidden_TD @ weight_ND.T
    some = torch.arange(len(x_TD)) != 3

    def error(*, after_relu: bool) -> float:
        y_TN = make_linear(weight_ND, "int8", after_relu=after_relu)(hidden_TD).float()
        assert not y_TN[3].any()
        return float((y_TN - exact_TN)[some].norm() / exact_TN[some].norm())

    # Not half: the weights are rounded as before.
    assert error(after_relu=True) < 0.9 * error(after_relu=False)


@needs_onednn
def test_the_loudest_value_keeps_its_sign_and_size() -> None:
    """Integers are unsigned: one step too far, and the largest value becomes the smallest."""
    x_TD = torch.tensor([[7.3, 0.0], [-7.3, 0.0], [1e-20, 0.0], [-3e30, 0.0]])
    for after_relu, rows in ((False, [0, 1, 3]), (True, [0])):
        y_TN = make_linear(torch.eye(2), "int8", after_relu=after_relu)(x_TD[rows])
        torch.testing.assert_close(y_TN.float(), x_TD[rows], rtol=0.01, atol=0)


def test_8_bit_products_are_refused_elsewhere() -> None:
    with pytest.raises(ModelError, match="int8 runs on CPUs only; on a GPU use bf16"):
        make_linear(torch.empty(8, 8, device="meta"), "int8")


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError])
def test_a_torch_without_8_bit_products_says_so(
    weight_ND: torch.Tensor, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> None:
        raise error("onednn::qlinear_prepack is not available")

    monkeypatch.setattr(Int8Linear, "__call__", absent)
    with pytest.raises(ModelError, match="no 8-bit product for this processor"):
        make_linear(weight_ND, "int8")
