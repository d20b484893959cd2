// The formulas of the interactive figures. A test compares them with the library's own numbers.

const acts = {
  // softmax of beta·x: softmin with beta = −1/T, softmax2d's positions with beta = +1/T
  softmax(x, beta) {
    const scaled = x.map((value) => beta * value);
    const largest = Math.max(...scaled);
    const powers = scaled.map((value) => Math.exp(value - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  },

  softmin(x, temperature) {
    return acts.softmax(x, -1 / temperature);
  },

  // J[i][j] = beta (y_i δ_ij − y_i y_j)
  jacobian(y, beta) {
    return y.map((yi, i) => y.map((yj, j) => beta * ((i === j ? yi : 0) - yi * yj)));
  },

  // The largest of slope·x + start over the pieces, the first of equal ones, its slope, and all that
  // are equal but for rounding.
  maxout(x, pieces) {
    const values = pieces.map(({ slope, start }) => slope * x + start);
    const y = Math.max(...values);
    const index = values.indexOf(y);
    const tied = [...values.keys()].filter((i) => y - values[i] < 1e-9);
    return { y, index, gradient: pieces[index].slope, tied };
  },

  entropy(y) {
    return -y.reduce((sum, p) => sum + (p > 0 ? p * Math.log2(p) : 0), 0);
  },

  // A number with its significant digits; only a true zero is 0.
  significant(value, digits = 2) {
    if (value === 0) return "0";
    const small = Math.abs(value) < 1e-4;
    return (small ? value.toExponential(0) : value.toPrecision(digits)).replaceAll("-", "−");
  },
};

if (typeof module !== "undefined") module.exports = acts;
