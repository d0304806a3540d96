"""Make the numbers of ``csrc/kernels/winograd.h`` from the points of interpolation.

Run from the repository: ``python scripts/winograd.py``. Everything is computed in fractions, and
the identity behind F(m, 3) is proved before anything is printed: both sides are linear in the
filter and in the input, so it is enough that they agree on unit vectors. `tests/test_winograd.py`
compares the header with what this makes.
"""

from fractions import Fraction

# the p of each pair +-p; 0 and infinity come with them
POINTS = {2: (Fraction(1),), 4: (Fraction(3, 4), Fraction(3, 2))}


def times(*polynomials):
    """Coefficients of a product, from the constant up."""
    product = [Fraction(1)]
    for factor in polynomials:
        longer = [Fraction(0)] * (len(product) + len(factor) - 1)
        for i, a in enumerate(product):
            for j, b in enumerate(factor):
                longer[i + j] += a * b
        product = longer
    return product


def value(polynomial, x):
    """A polynomial at x."""
    return sum(c * x**i for i, c in enumerate(polynomial))


def tables(m):
    """The fields of the header's table, by name."""
    squares = [p * p for p in POINTS[m]]
    whole = times(*([-q, 1] for q in squares))
    without = [
        times(*([-q, 1] for j, q in enumerate(squares) if j != i)) for i in range(len(squares))
    ]
    return {
        "whole": whole,
        "without": without,
        "power": [[p**i for i in range(max(m, 3))] for p in POINTS[m]],
        "scale": [
            1 / whole[0],
            *(1 / (2 * q * value(w, q)) for q, w in zip(squares, without, strict=True)),
        ],
    }


def matrices(m):
    """A^T, G and B^T, as Toom and Cook have them: straight from the points."""
    points = [Fraction(0)]
    for p in POINTS[m]:
        points += [p, -p]
    n = m + 2

    def others(x):
        return times(*([-y, 1] for y in points if y != x))

    a = [[x**i for x in points] + [Fraction(i == m - 1)] for i in range(m)]
    g = [[x**k / value(others(x), x) for k in range(3)] for x in points]
    g.append([Fraction(0), Fraction(0), Fraction(1)])
    b = [others(x) + [Fraction(0)] for x in points]
    b.append(times(*([-x, 1] for x in points)))
    assert all(len(row) == n for row in b)
    return a, g, b


def from_tables(m):
    """The same three, as the kernels compute them from the tables."""
    t, pairs, zero = tables(m), m // 2, Fraction(0)
    b = [[zero] * (m + 2) for _ in range(m + 2)]
    for k in range(pairs + 1):
        b[0][2 * k] = b[-1][2 * k + 1] = t["whole"][k]
    g = [[t["scale"][0], zero, zero]]
    for i in range(pairs):
        p, scale = t["power"][i][1], t["scale"][1 + i]
        for k in range(pairs):
            b[1 + 2 * i][2 * k + 2] = b[2 + 2 * i][2 * k + 2] = t["without"][i][k]
            b[1 + 2 * i][2 * k + 1] = p * t["without"][i][k]
            b[2 + 2 * i][2 * k + 1] = -p * t["without"][i][k]
        g += [[scale, scale * p, scale * p * p], [scale, -scale * p, scale * p * p]]
    g.append([zero, zero, Fraction(1)])
    a = []
    for k in range(m):
        row = [Fraction(k == 0)]
        for power in t["power"]:
            row += [power[k], power[k] * (-1) ** k]
        a.append([*row, Fraction(k == m - 1)])
    return a, g, b


def phases(m):
    """A^T, G and B^T of F(m, 2), for the phases of stride 2: those of F(m, 3) without the point 0.

    B^T loses the factor x, and G gains it.
    """
    a, g, b = from_tables(m)
    points = [sign * p for p in POINTS[m] for sign in (1, -1)]
    a = [row[1:] for row in a]
    g = [[p * c for c in row[:2]] for p, row in zip(points, g[1:-1], strict=True)]
    g.append([Fraction(0), Fraction(1)])
    assert all(row[0] == 0 for row in b[1:])
    return a, g, [row[1:] for row in b[1:]]


def pairs():
    """A^T, G and B^T of F(2, 2) for pairs of rows, from the points 0, 1 and infinity.

    In the order of ``csrc/kernels/winograd_pairs.h``: what both outputs have, the first's, the
    second's.
    """
    a = [[1, 1, 0], [1, 0, -1]]
    g = [[1, 1], [1, 0], [0, 1]]
    b = [[0, 1, 0], [1, -1, 0], [0, 1, -1]]
    return tuple([list(map(Fraction, row)) for row in matrix] for matrix in (a, g, b))


def unit(n, i):
    """The i-th unit vector."""
    return [Fraction(i == j) for j in range(n)]


def apply(matrix, vector):
    """matrix times vector."""
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def is_correlation(m, a, g, b):
    """Whether A^T ((G f) .* (B^T d)) is the correlation of d with f, exactly."""
    taps = len(g[0])
    for i in range(taps):
        for j in range(m + taps - 1):
            f, d = unit(taps, i), unit(m + taps - 1, j)
            products = [u * v for u, v in zip(apply(g, f), apply(b, d), strict=True)]
            if apply(a, products) != [sum(f[r] * d[p + r] for r in range(taps)) for p in range(m)]:
                return False
    return True


def main():
    """Print the table of the header."""
    assert is_correlation(2, *pairs())
    for m in POINTS:
        made = from_tables(m)
        assert made == matrices(m)
        assert is_correlation(m, *made)
        assert is_correlation(m, *phases(m))
        print(f"F({m}, 3)")
        for name, numbers in tables(m).items():
            rows = numbers if isinstance(numbers[0], list) else [numbers]
            text = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in rows)
            print(f"  {name:8}{text}")


if __name__ == "__main__":
    main()
