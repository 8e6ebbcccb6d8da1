"""The inner loop of the chain: sixteen channels at a time, their thirteen states kept in registers over the samples.

A compiler that vectorises the plain loop over channels loads and stores every state for every sample, and that costs as
much as the arithmetic. Here the vectors are written out: the samples of a bin are walked while the states stay where
they are. On processors with narrower vectors LLVM splits the sixteen.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
N_STATES = 13  # 4 biquads × 2, then 5 weighted sums
FLOAT = ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)


def splat(builder: Any, value: Any) -> Any:
    """The scalar in every lane."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        one, ir.Constant(VECTOR, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )


@intrinsic
def filter_lanes(typingctx, x, n, state, apart, means, filters, sums_at, clip):  # type: ignore[no-untyped-def]
    """Re-reference, clip, band-pass, rectify, and the five weighted sums of sixteen channels over n samples.

    Args:
        x: float32 (n, ≥16) at the group's first channel; each row contiguous.
        state: float32, at the group's first channel of the first state; the thirteen stand `apart` floats apart.
        means: float32 (n,), what the re-reference takes off.
        filters: float32, 8 feedback coefficients (a1, a2 of each biquad), and from `sums_at` on 5 weights a sample.
        clip: float32, microvolts.

    A biquad with the zeros ±1, transposed: y = v + p; p = q − a₁y; q = −v − a₂y. Multiply and add are fused where the
    processor can, always or never, so that the cutting of the samples does not show in the bits.
    """

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def array(i: int) -> Any:
            return cgutils.create_struct_proxy(signature.args[i])(context, builder, value=arguments[i])

        n, apart, sums_at, clip = arguments[1], arguments[3], arguments[6], arguments[7]
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fmuladd.v{LANES}f32"
        )
        absolute = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR]), f"llvm.fabs.v{LANES}f32"
        )
        x_row = cgutils.unpack_tuple(builder, array(0).strides, 2)[0]
        x_at = builder.ptrtoint(array(0).data, x_row.type)
        means_at, filters_at, state_at = array(4).data, array(5).data, array(2).data
        high = splat(builder, clip)
        low = builder.fneg(high)

        def number(base: Any, at: Any) -> Any:
            return splat(builder, builder.load(builder.gep(base, [at])))

        def place(k: int) -> Any:
            at = builder.gep(state_at, [builder.mul(apart, ir.Constant(apart.type, k))])
            return builder.bitcast(at, VECTOR.as_pointer())

        held = []
        for k in range(N_STATES):
            slot = cgutils.alloca_once(builder, VECTOR)
            builder.store(builder.load(place(k), align=4), slot)
            held.append(slot)
        feedback = [builder.fneg(number(filters_at, ir.Constant(apart.type, k))) for k in range(8)]

        with cgutils.for_range(builder, n, intp=n.type) as loop:
            row = builder.add(x_at, builder.mul(loop.index, x_row))
            v = builder.load(builder.inttoptr(row, VECTOR.as_pointer()), align=4)
            v = builder.fsub(v, number(means_at, loop.index))
            v = builder.select(builder.fcmp_ordered("<", v, low), low, v)
            v = builder.select(builder.fcmp_ordered(">", v, high), high, v)
            for biquad in range(4):
                p, q = held[2 * biquad], held[2 * biquad + 1]
                y = builder.fadd(v, builder.load(p))
                builder.store(builder.call(fused, [feedback[2 * biquad], y, builder.load(q)]), p)
                builder.store(builder.call(fused, [feedback[2 * biquad + 1], y, builder.fneg(v)]), q)
                v = y
            v = builder.call(absolute, [v])
            weights_at = builder.add(sums_at, builder.mul(loop.index, ir.Constant(n.type, 5)))
            for k in range(5):
                weight = number(filters_at, builder.add(weights_at, ir.Constant(n.type, k)))
                total = held[8 + k]
                builder.store(builder.call(fused, [weight, v, builder.load(total)]), total)
        for k in range(N_STATES):
            builder.store(builder.load(held[k]), place(k), align=4)
        return context.get_dummy_value()

    integer, single = types.intp, types.float32
    return types.void(x, integer, state, integer, means, filters, integer, single), generate
