"""ops/rope.py: rotation against complex numbers in float64; scores that depend on the distance only."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from eventide.ops.rope import _formula, rotate, rotation_table
from tests import references

F64 = torch.empty(0, dtype=torch.float64)


def draw(length: int, heads: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, heads * width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("heads", "width"), [(1, 2), (3, 4), (2, 64)])
@pytest.mark.parametrize("length", [1, 2, 9, 1000])
def test_against_complex_numbers(length: int, heads: int, width: int, dtype: torch.dtype, tolerance: float) -> None:
    x = draw(length, heads, width)
    given_x = x.to(dtype).requires_grad_()
    exact = x.to(dtype).double().requires_grad_()
    found = rotate(given_x, heads, rotation_table(length, width, given_x))
    expected = references.rotate(exact, heads)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    (ours,) = references.gradients(found, x, [given_x])
    (theirs,) = references.gradients(expected, x, [exact])
    torch.testing.assert_close(ours.double(), theirs, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_formula_for_the_compiler_is_the_same(heads: int) -> None:
    x, table = draw(57, heads, 6), rotation_table(57, 6, F64)
    torch.testing.assert_close(_formula(x, heads, table), rotate(x, heads, table), rtol=1e-12, atol=1e-12)
    assert _formula(x.bfloat16(), heads, table.float()).dtype == torch.bfloat16


@given(
    left=st.integers(0, 5000),
    right=st.integers(0, 5000),
    shift=st.integers(0, 50_000),
    width=st.sampled_from([2, 4, 16]),
    seed=st.integers(0, 2**31),
)
def test_scores_depend_on_the_distance_only(left: int, right: int, shift: int, width: int, seed: int) -> None:
    q, k = torch.randn(2, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table = rotation_table(max(left, right) + shift + 1, width, F64)

    def score(first: int, second: int) -> float:
        turned = [rotate(x[None, None], 1, table[at : at + 1])[0, 0] for x, at in ((q, first), (k, second))]
        return float(turned[0] @ turned[1])

    assert score(left, right) == pytest.approx(score(left + shift, right + shift), abs=1e-8)


def test_scores_do_depend_on_the_distance() -> None:
    ones, table = torch.ones(1, 20, 4, dtype=torch.float64), rotation_table(20, 4, F64)
    turned = rotate(ones, 1, table)[0]
    scores = turned @ turned[0]
    assert len({round(float(score), 6) for score in scores}) == 20


def test_the_first_position_stays_and_lengths_stay() -> None:
    x = draw(57, 2, 8)
    turned = rotate(x, 2, rotation_table(57, 8, F64))
    assert torch.equal(turned[:, 0], x[:, 0])
    torch.testing.assert_close(turned.square().sum(-1), x.square().sum(-1))


def test_far_positions_are_exact() -> None:
    """In float32 the angle of position 100,000 would be off by hundredths; the table is not."""
    table = rotation_table(100_001, 8, torch.empty(0))
    assert table.dtype == torch.float32
    for pair in range(4):
        angle = 100_000 * 10_000 ** (-2 * pair / 8)
        expected = torch.tensor([math.cos(angle), math.sin(angle)])
        torch.testing.assert_close(table[100_000, pair], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [2, 8])
def test_a_longer_table_begins_with_the_shorter(width: int) -> None:
    assert torch.equal(rotation_table(1000, width, F64)[:57], rotation_table(57, width, F64))


def test_bfloat16_turns_in_float32() -> None:
    x = draw(57, 2, 8).bfloat16().requires_grad_()
    table = rotation_table(57, 8, x)
    assert table.dtype == torch.float32
    found = rotate(x, 2, table)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, rotate(x.detach().float(), 2, table).bfloat16())
    (gradient,) = torch.autograd.grad(found, x, torch.ones_like(found))
    assert gradient.dtype == torch.bfloat16


def test_views_and_gradients_that_are_views() -> None:
    x, table = draw(57, 2, 8), rotation_table(57, 8, F64)
    expected = rotate(x, 2, table)
    for view in (x.transpose(1, 2).contiguous().transpose(1, 2), torch.cat((x, x), dim=2)[..., :16]):
        ours = view.detach().requires_grad_()
        found = rotate(ours, 2, table)
        assert torch.equal(found, expected)
        direction = torch.ones_like(found).transpose(0, 1).contiguous().transpose(0, 1)
        (gradient,) = torch.autograd.grad(found, ours, direction)
        torch.testing.assert_close(gradient, rotate(torch.ones_like(x), 2, table * torch.tensor([1.0, -1.0])))


def test_gradients_by_finite_differences() -> None:
    table = rotation_table(5, 4, F64)
    assert torch.autograd.gradcheck(lambda x: rotate(x, 2, table), [draw(5, 2, 4).requires_grad_()])
