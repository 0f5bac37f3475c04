"""Compiled CPU kernels on packed bits: active neurons, weights, nearest centroid, member sums, top entries.

Each gives exactly what the plain torch path beside its caller gives. Patterns and centroids come as rows of
64-bit words. Kernels release the GIL and work on a range of rows or centroids, so that `in_threads` can run
them on as many threads as torch has, and the result does not depend on how many there are.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 4  # patterns and ...
LANES = 16  # ... centroids whose overlaps are counted together, in registers
VECTOR = 8  # words in a vector: one AVX-512 register; LLVM splits it where registers are shorter
BLOCK_BYTES = 2**18  # of patterns that stay in the second-level cache while the centroids pass by
EIGHT_BYTES_TO_BITS = np.uint64(0x0102040810204080)  # times eight bytes of 0 or 1: byte i is bit 56 + i
COUNTER_LIMIT = 255  # members an 8-bit counter can count
THREAD_WORDS = 2**22  # popcounted, and ...
THREAD_ENTRIES = 2**17  # ... integers passed over in about the time that is worth a thread


def in_threads(work: Callable[[int, int], None], count: int, worthwhile: int) -> None:
    """Call `work(start, stop)` on ranges that make up range(count), one per torch thread.

    No range is shorter than `worthwhile` (unless `count` is): a thread takes as long to start as it takes to
    make millions of popcounts. The caller's thread takes the last range.
    """
    threads = max(1, min(torch.get_num_threads(), count // worthwhile))
    bounds = [count * part // threads for part in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        others = [pool.submit(work, *bounds[part : part + 2]) for part in range(threads - 1)]
        work(*bounds[-2:])
        for other in others:
            other.result()


def _compiled(signature: str, fastmath: bool | set[str] = False) -> Callable:
    """Compile for `signature`, from numba's cache on disk where there is a writable place for it."""

    def decorate(function: Callable) -> Callable:
        try:
            return njit(signature, nogil=True, fastmath=fastmath, cache=True)(function)
        except RuntimeError:
            return njit(signature, nogil=True, fastmath=fastmath)(function)

    return decorate


def _spread(builder, value, lanes):
    """Return the LLVM vector of `lanes` times a value."""
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, first, zeros)


@intrinsic
def _count_tile(context, rows, centroids, best, planes, words, rank):
    """Raise the keys of ROWS patterns by their overlaps with LANES centroids.

    Addresses of int64 rows (ROWS, planes, words), centroids (words, LANES) and best (ROWS, VECTOR). An
    overlap is the sum over planes, the first of which counts most, of 2^(planes - 1 - plane) times the
    shared bits. A key is the overlap in its high half and, in its low half, `rank` (of the first centroid)
    less the centroid's lane: the largest key is the largest overlap, the first centroid among equals.
    Written in LLVM's vectors because a loop over one centroid's words ends in a horizontal sum each time,
    which costs as much as the counting; here a lane is a centroid, and nothing is summed across lanes.
    """

    def generate(target, builder, signature, arguments):
        rows, centroids, best, planes, words, rank = arguments
        word, vectors = ir.IntType(64), LANES // VECTOR
        vector = ir.VectorType(word, VECTOR)
        count = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{VECTOR}i64"
        )

        def constant(values):
            return ir.Constant(vector, list(values))

        def load(address):
            value = builder.load(address)
            value.align = 8
            return value

        row_words = builder.inttoptr(rows, word.as_pointer())
        centroid_words = builder.inttoptr(centroids, vector.as_pointer())
        keys = builder.inttoptr(best, vector.as_pointer())

        places = [(r, v) for r in range(ROWS) for v in range(vectors)]
        row_length = builder.mul(planes, words)
        before = builder.block
        plane_start, loop, plane_end, after = (builder.append_basic_block() for _ in range(4))
        builder.branch(plane_start)

        builder.position_at_end(plane_start)
        plane = builder.phi(word)
        counted_before = {place: builder.phi(vector) for place in places}
        doubled = {place: builder.shl(counted_before[place], constant([1] * VECTOR)) for place in places}
        plane_offset = builder.mul(plane, words)
        builder.branch(loop)

        builder.position_at_end(loop)
        position = builder.phi(word)
        overlaps = {place: builder.phi(vector) for place in places}
        start = builder.mul(position, word(vectors))
        centroid = [load(builder.gep(centroid_words, [builder.add(start, word(v))])) for v in range(vectors)]
        in_row = builder.add(plane_offset, position)
        counted = {}
        for r in range(ROWS):
            offset = builder.add(builder.mul(row_length, word(r)), in_row)
            row = _spread(builder, load(builder.gep(row_words, [offset])), VECTOR)
            for v in range(vectors):
                common = builder.call(count, [builder.and_(row, centroid[v])])
                counted[r, v] = builder.add(overlaps[r, v], common)
        following = builder.add(position, word(1))
        builder.cbranch(builder.icmp_unsigned("<", following, words), loop, plane_end)

        builder.position_at_end(plane_end)
        next_plane = builder.add(plane, word(1))
        builder.cbranch(builder.icmp_unsigned("<", next_plane, planes), plane_start, after)

        plane.add_incoming(word(0), before)
        plane.add_incoming(next_plane, plane_end)
        position.add_incoming(word(0), plane_start)
        position.add_incoming(following, loop)
        for place in places:
            counted_before[place].add_incoming(constant([0] * VECTOR), before)
            counted_before[place].add_incoming(counted[place], plane_end)
            overlaps[place].add_incoming(doubled[place], plane_start)
            overlaps[place].add_incoming(counted[place], loop)

        builder.position_at_end(after)
        for r in range(ROWS):
            address = builder.gep(keys, [word(r)])
            largest = load(address)
            for v in range(vectors):
                lanes = constant(range(v * VECTOR, (v + 1) * VECTOR))
                ranks = builder.sub(_spread(builder, rank, VECTOR), lanes)
                key = builder.add(builder.shl(counted[r, v], constant([32] * VECTOR)), ranks)
                largest = builder.select(builder.icmp_signed(">", key, largest), key, largest)
            builder.store(largest, address).align = 8
        return target.get_dummy_value()

    return types.void(rows, centroids, best, planes, words, rank), generate


@_compiled("void(int64[:, :, ::1], int64[:, :, ::1], int64[::1], int64[::1])")
def nearest(rows, centroids, index, overlap):
    """Write each row's centroid of largest overlap (the first among equals) and that overlap.

    rows (n >= ROWS, planes, words); centroids (groups, words, LANES), zeros behind the last; index and
    overlap (n,). An overlap is a sum over planes, as in `_count_tile`, below 2^31.
    """
    count, planes, words = rows.shape
    block = max(ROWS, BLOCK_BYTES // (8 * planes * words))
    best = np.empty((block + ROWS, VECTOR), np.int64)
    for start in range(0, count, block):
        # The last tile of the last block reaches back over rows already seen; their keys cannot change.
        start = min(start, count - ROWS)
        stop = min(start + block, count)
        best[:] = 0
        for group in range(centroids.shape[0]):
            rank = 0x7FFFFFFF - group * LANES
            for tile in range(start, stop, ROWS):
                row = min(tile, stop - ROWS)
                _count_tile(
                    rows.ctypes.data + row * planes * words * 8,
                    centroids.ctypes.data + group * words * LANES * 8,
                    best.ctypes.data + (row - start) * VECTOR * 8,
                    planes,
                    words,
                    rank,
                )
        for row in range(start, stop):
            key = best[row - start, 0]
            for lane in range(1, VECTOR):
                key = max(key, best[row - start, lane])
            overlap[row] = key >> 32
            index[row] = 0x7FFFFFFF - (key & 0xFFFFFFFF)


@intrinsic
def _add_bits(context, counters, bits):
    """Add the 64 bits of a word to the 64 int8 counters at an address: one masked subtraction of -1."""

    def generate(target, builder, signature, arguments):
        counters, bits = arguments
        bytes64 = ir.VectorType(ir.IntType(8), 64)
        address = builder.inttoptr(counters, bytes64.as_pointer())
        old = builder.load(address)
        old.align = 8
        minus = builder.sext(builder.bitcast(bits, ir.VectorType(ir.IntType(1), 64)), bytes64)
        builder.store(builder.sub(old, minus), address).align = 8
        return target.get_dummy_value()

    return types.void(counters, bits), generate


@_compiled("void(int64[::1], int64[::1], int64[::1])")
def group_members(index, starts, order):
    """List the members of each cluster: cluster k's are order[starts[k]:starts[k + 1]], in their order.

    index (n,), order (n,), starts (K + 1,), zero when called.
    """
    for i in range(len(index)):
        starts[index[i] + 1] += 1
    for k in range(1, len(starts)):
        starts[k] += starts[k - 1]
    following = starts.copy()
    for i in range(len(index)):
        order[following[index[i]]] = i
        following[index[i]] += 1


@_compiled("void(int64[:, :, ::1], int64[::1], int64[::1], int64, int64, int32[:, ::1])")
def add_members(rows, order, starts, first, last, sums):
    """Add to sums[k] (D,) the numbers of rows[order[starts[k]:starts[k + 1]]], for first <= k < last.

    rows (n, planes, words) are numbers by their bits, the highest in the first plane.
    """
    planes, words, width = rows.shape[1], rows.shape[2], sums.shape[1]
    counters = np.empty(64 * words, np.uint8)
    for cluster in range(first, last):
        for start in range(starts[cluster], starts[cluster + 1], COUNTER_LIMIT):
            stop = min(start + COUNTER_LIMIT, starts[cluster + 1])
            for plane in range(planes):
                counters[:] = 0
                for member in range(start, stop):
                    row = order[member]
                    for w in range(words):
                        _add_bits(counters.ctypes.data + 64 * w, rows[row, plane, w])
                for i in range(width):
                    sums[cluster, i] += np.int32(counters[i]) << (planes - 1 - plane)


@_compiled("void(int32[:, ::1], int64, int64, int64, uint8[:, ::1])")
def top_entries(scores, ones, first, last, packed):
    """Set packed[k] to the bits of the `ones` largest of scores[k], the first among equals."""
    width = scores.shape[1]
    kept = np.zeros(8 * packed.shape[1], np.uint8)
    for cluster in range(first, last):
        row = scores[cluster]
        limit, above = np.int64(row.min()), np.int64(row.max()) + 1
        missing = ones
        while above - limit > 1:
            middle = np.int32((limit + above) // 2)
            count = np.int32(0)
            for i in range(width):
                count += row[i] >= middle
            if count >= ones:
                limit = np.int64(middle)
            else:
                above, missing = np.int64(middle), ones - count
        limit = np.int32(limit)
        for i in range(width):
            kept[i] = row[i] > limit
        for i in range(width):
            if missing and row[i] == limit:
                kept[i] = 1
                missing -= 1
                if not missing:
                    break
        eights = kept.view(np.uint64)
        for byte in range(packed.shape[1]):
            packed[cluster, byte] = (eights[byte] * EIGHT_BYTES_TO_BITS) >> np.uint64(56)


@intrinsic
def _bits_of(context, numbers, bit):
    """Return the word whose bits tell which of the 64 uint8 numbers at an address have a bit in common."""

    def generate(target, builder, signature, arguments):
        numbers, bit = arguments
        byte, bytes64 = ir.IntType(8), ir.VectorType(ir.IntType(8), 64)
        loaded = builder.load(builder.inttoptr(numbers, bytes64.as_pointer()))
        loaded.align = 8
        common = builder.and_(loaded, _spread(builder, builder.trunc(bit, byte), 64))
        return builder.bitcast(
            builder.icmp_unsigned("!=", common, ir.Constant(bytes64, [0] * 64)), ir.IntType(64)
        )

    return types.int64(numbers, bit), generate


@_compiled("void(float32[:, ::1], float32, int64, float32, int64[:, :, ::1])", {"nnan", "nsz"})
def weigh(magnitudes, scale, power, limit, planes):
    """Write the bit planes (n, bits, words) of integers in proportion to (magnitudes (n, D) / scale)^power.

    power is 1 or 2. A row's factor makes the larger of `limit` and its largest entry 2^bits - 1.
    """
    count, bits, words = planes.shape
    width = magnitudes.shape[1]
    relative = np.empty(width, np.float32)
    numbers = np.zeros(64 * words, np.uint8)
    for row in range(count):
        largest = limit
        for i in range(width):
            value = magnitudes[row, i] / scale
            if power == 2:
                value *= value
            relative[i] = value
            largest = max(largest, value)
        factor = np.float32(1) / largest * np.float32(2**bits - 1)  # rounded as torch rounds it
        for i in range(width):
            numbers[i] = np.uint8(np.int32(np.rint(relative[i] * factor)))
        for plane in range(bits):
            for w in range(words):
                planes[row, plane, w] = _bits_of(numbers.ctypes.data + 64 * w, 1 << (bits - 1 - plane))


@intrinsic
def _at_least(context, values, limit):
    """Return the word whose bits tell which of the 64 float32 at an address reach `limit`."""

    def generate(target, builder, signature, arguments):
        values, limit = arguments
        floats64 = ir.VectorType(ir.FloatType(), 64)
        loaded = builder.load(builder.inttoptr(values, floats64.as_pointer()))
        loaded.align = 4
        reached = builder.fcmp_ordered(">=", loaded, _spread(builder, limit, 64))
        return builder.bitcast(reached, ir.IntType(64))

    return types.int64(values, limit), generate


@_compiled("void(float32[:, ::1], float32, int64[:, ::1])")
def find_active(scores, limit, words):
    """Set the bits of words (n, ceil(D / 64)) to the entries of scores (n, D) that reach `limit`."""
    count, width = scores.shape
    whole, behind = width // 64, width % 64
    last = np.zeros(64, np.float32)
    for row in range(count):
        for w in range(whole):
            words[row, w] = _at_least(scores.ctypes.data + 4 * (row * width + 64 * w), limit)
        if behind:
            for i in range(behind):
                last[i] = scores[row, 64 * whole + i]
            words[row, whole] = _at_least(last.ctypes.data, limit) & ((1 << behind) - 1)


@intrinsic
def _add_where(context, totals, values, bits):
    """Add to the 64 float32 at an address those of the 64 at another address whose bit is set."""

    def generate(target, builder, signature, arguments):
        totals, values, bits = arguments
        floats64 = ir.VectorType(ir.FloatType(), 64)
        address = builder.inttoptr(totals, floats64.as_pointer())
        old, new = builder.load(address), builder.load(builder.inttoptr(values, floats64.as_pointer()))
        old.align = new.align = 4
        chosen = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 64))
        added = builder.select(chosen, new, ir.Constant(floats64, [0.0] * 64))
        builder.store(builder.fadd(old, added), address).align = 4
        return target.get_dummy_value()

    return types.void(totals, values, bits), generate


@_compiled("void(float32[:, ::1], int64[:, ::1], float64[::1])")
def add_where(scores, words, sums):
    """Set sums[i] to the sum of the entries of scores[i] (D,) whose bit is set in words[i]."""
    count, width = scores.shape
    whole, behind = width // 64, width % 64
    totals, last = np.empty(64, np.float32), np.zeros(64, np.float32)
    for row in range(count):
        totals[:] = 0
        for w in range(whole):
            values = scores.ctypes.data + 4 * (row * width + 64 * w)
            _add_where(totals.ctypes.data, values, words[row, w])
        if behind:
            for i in range(behind):
                last[i] = scores[row, 64 * whole + i]
            _add_where(totals.ctypes.data, last.ctypes.data, words[row, whole])
        sums[row] = totals.astype(np.float64).sum()
