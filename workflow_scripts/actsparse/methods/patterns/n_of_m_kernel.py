"""N:M pruning on the CPU, written for its vector registers.

A register (LLVM splits it where the processor's are shorter) holds one or more whole groups. Ranks are
counted by comparing all elements with each element of their group in turn. Floats are compared as integers
of the same order, so that "or equal, and later" is a comparison with the integer before: ties cost nothing.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from actsparse.methods.patterns import kernels

# Bytes of one vector: enough to fill the widest registers there are.
VECTOR_BYTES = 64
# Groups above this would make code that takes longer to compile than it saves.
LARGEST_GROUP = 64


def prune_n_of_m(x: Tensor, scores: Tensor | None, n: int, m: int) -> tuple[Tensor, bool]:
    """Return `x` (..., d) with all but the `n` best of each `m` elements zeroed, and whether `x` is finite.

    `scores` are of x's shape; None stands for abs(x). The caller has asked `kernels.fits`.
    """
    element_size = (x if scores is None else scores).element_size()
    groups = max(1, VECTOR_BYTES // element_size // m)
    # Lengths of tuples are known when a kernel is compiled, values are not.
    absolute = (0,) if scores is None else ()
    return kernels.run(_kernel, x, scores, m, n, (0,) * m, (0,) * groups, absolute)


@intrinsic
def _prune_vector(typingctx, scores, values, target, infinity, n, lanes, groups, absolute):
    """Prune len(groups) groups of len(lanes) elements at given addresses; tell whether one is not finite."""
    m, count, bits = lanes.count, lanes.count * groups.count, infinity.bitwidth
    element = ir.IntType(bits)
    vector = ir.VectorType(element, count)
    index = ir.VectorType(ir.IntType(32), count)
    anything = ir.Constant(vector, ir.Undefined)

    def constant(numbers) -> ir.Constant:
        return ir.Constant(vector, list(numbers))

    def splat(builder, number):
        first = builder.insert_element(anything, number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, anything, ir.Constant(index, [0] * count))

    def codegen(context, builder, signature, arguments):
        def load(address):
            loaded = builder.load(builder.inttoptr(address, vector.as_pointer()))
            loaded.align = bits // 8
            return loaded

        zero = constant([0] * count)
        magnitude_bits = constant([(1 << bits - 1) - 1] * count)
        x = load(arguments[1])
        magnitude = builder.and_(x, magnitude_bits)
        if absolute.count:
            key = magnitude
        else:
            score = load(arguments[0])
            negative = builder.neg(builder.and_(score, magnitude_bits))
            key = builder.select(builder.icmp_signed("<", score, zero), negative, score)
        rank = zero
        for position in range(m):
            spread = ir.Constant(index, [lane // m * m + position for lane in range(count)])
            rival = builder.shuffle_vector(key, anything, spread)
            bar = builder.sub(key, constant([int(lane % m > position) for lane in range(count)]))
            beaten = builder.icmp_signed(">", rival, bar)
            rank = builder.sub(rank, builder.sext(beaten, vector))
        limit = splat(builder, builder.trunc(arguments[4], element))
        survivors = builder.select(builder.icmp_signed("<", rank, limit), x, zero)
        stored = builder.store(survivors, builder.inttoptr(arguments[2], vector.as_pointer()))
        stored.align = bits // 8
        broken = builder.icmp_signed(">=", magnitude, splat(builder, arguments[3]))
        flags = ir.IntType(count)
        return builder.icmp_unsigned("!=", builder.bitcast(broken, flags), ir.Constant(flags, 0))

    parameters = (scores, values, target, infinity, n, lanes, groups, absolute)
    return types.boolean(*parameters), codegen


@njit(nogil=True, cache=True)
def _kernel(scores, values, result, infinity, n, lanes, groups, absolute):
    score, value, target = scores.ctypes.data, values.ctypes.data, result.ctypes.data
    group = len(lanes) * values.itemsize
    step = group * len(groups)
    end = values.size * values.itemsize
    offset = 0
    broken = False
    while offset + step <= end:
        broken |= _prune_vector(
            score + offset, value + offset, target + offset, infinity, n, lanes, groups, absolute
        )
        offset += step
    while offset < end:
        broken |= _prune_vector(
            score + offset, value + offset, target + offset, infinity, n, lanes, (0,), absolute
        )
        offset += group
    return broken
