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

  // The largest of slope·x + start over the pieces, the first of equal ones, and its slope.
  maxout(x, pieces) {
    let index = 0;
    const values = pieces.map(({ slope, start }) => slope * x + start);
    values.forEach((value, i) => {
      if (value > values[index]) index = i;
    });
    return { y: values[index], index, gradient: pieces[index].slope };
  },

  entropy(y) {
    return -y.reduce((sum, p) => sum + (p > 0 ? p * Math.log2(p) : 0), 0);
  },
};

if (typeof module !== "undefined") module.exports = acts;
