// The interactive figures: SVG that is drawn anew from a few numbers whenever one of them changes.
// A figure is mounted where a page has <figure data-interactive="name">; without JavaScript its
// caption remains.

(() => {
  const COLOURS = ["var(--blue)", "var(--orange)", "var(--green)", "var(--red)", "var(--quiet)"];
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const signed = (value, digits = 2) => value.toFixed(digits).replace(/^-0\.?0*$/, "0").replace("-", "−");

  function add(parent, name, attributes = {}, text) {
    const html = parent.namespaceURI !== "http://www.w3.org/2000/svg" && name !== "svg";
    const element = html
      ? document.createElement(name)
      : document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  }

  const panel = (stage, width, height, label) =>
    add(stage, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label });

  // Where a pointer is, in the units of an SVG.
  function at(svg, event) {
    const point = new DOMPoint(event.clientX, event.clientY);
    return point.matrixTransform(svg.getScreenCTM().inverse());
  }

  // A round handle that is dragged, or moved by arrow keys: a slider to assistive technology.
  function handle(svg, { label, colour, low, high, step, vertical, get, set, say, move }) {
    const group = add(svg, "g", {
      class: "handle",
      tabindex: 0,
      role: "slider",
      "aria-label": label,
      "aria-orientation": vertical ? "vertical" : "horizontal",
      "aria-valuemin": low,
      "aria-valuemax": high,
    });
    add(group, "circle", { class: "reach", r: 20 });
    add(group, "circle", { r: 7, style: `stroke: ${colour}` });
    add(group, "circle", { class: "ring", r: 12 });
    const change = (value) => set(clamp(Math.round(value / step) * step, low, high));
    group.addEventListener("pointerdown", (event) => {
      group.setPointerCapture(event.pointerId);
      group.focus({ preventScroll: true });
      event.preventDefault();
    });
    group.addEventListener("pointermove", (event) => {
      if (group.hasPointerCapture(event.pointerId)) change(move(at(svg, event)));
    });
    group.addEventListener("keydown", (event) => {
      const steps = {
        ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5,
      }[event.key];
      if (steps) change(get() + steps * 2 * step);
      else if (event.key === "Home") change(low);
      else if (event.key === "End") change(high);
      else return;
      event.preventDefault();
    });
    return (x, y) => {
      group.setAttribute("transform", `translate(${x} ${y})`);
      group.setAttribute("aria-valuenow", get().toFixed(2));
      group.setAttribute("aria-valuetext", say());
    };
  }

  function slider(controls, label, low, high, value, show, changed) {
    const frame = add(controls, "label", {}, label);
    const input = add(frame, "input", { type: "range", min: low, max: high, step: "any", value });
    const output = add(frame, "output");
    const update = () => {
      output.textContent = show(+input.value);
      input.setAttribute("aria-valuetext", output.textContent);
      changed(+input.value);
    };
    input.addEventListener("input", update);
    output.textContent = show(value);
    return input;
  }

  // A matrix as squares with numbers; returns how to draw another one.
  function matrix(svg, left, top, size, n, names) {
    const side = size / n;
    const cells = [];
    for (let i = 0; i < n; i++) {
      add(svg, "text", { x: left - 6, y: top + (i + 0.5) * side + 4, "text-anchor": "end", class: "note" }, names[i]);
      add(svg, "text", { x: left + (i + 0.5) * side, y: top + size + 15, "text-anchor": "middle", class: "note" }, names[i]);
      for (let j = 0; j < n; j++) {
        const place = { x: left + j * side, y: top + i * side };
        const square = add(svg, "rect", { ...place, width: side, height: side, style: "stroke: var(--line)" });
        const text = add(svg, "text", {
          x: place.x + side / 2, y: place.y + side / 2 + 4, "text-anchor": "middle",
        });
        cells.push({ i, j, square, text });
      }
    }
    return (values, limit) => {
      for (const { i, j, square, text } of cells) {
        const value = values[i][j];
        const share = Math.round(60 * clamp(Math.abs(value) / limit, 0, 1));
        const colour = value < 0 ? "var(--red)" : "var(--blue)";
        square.style.fill = `color-mix(in srgb, ${colour} ${share}%, var(--paper))`;
        text.textContent = signed(value);
      }
    };
  }

  // ---- softmin: five numbers, a temperature, the weights, the Jacobian --------------------------

  function softmin(figure, stage, controls, says) {
    const x = [0.4, 1.0, 2.2, 3.0, 3.6];
    const [LOW, HIGH, STEP] = [0, 4, 0.05];
    let temperature = 1;
    const names = x.map((_, i) => `x${"₁₂₃₄₅"[i]}`);
    const place = (i) => 46 + 56 * i;
    const height = (value) => 165 - (130 * (value - LOW)) / (HIGH - LOW);

    const left = panel(stage, 320, 300, "Five numbers to drag, and their softmin weights as bars");
    add(left, "text", { x: 18, y: 16, class: "note" }, "numbers: drag");
    for (const value of [0, 1, 2, 3, 4]) {
      add(left, "line", { class: "axis", x1: 24, x2: 300, y1: height(value), y2: height(value) });
      add(left, "text", { class: "note", x: 18, y: height(value) + 4, "text-anchor": "end" }, value);
    }
    add(left, "text", { x: 18, y: 202, class: "note" }, "weights");
    add(left, "line", { class: "axis", x1: 24, x2: 300, y1: 276, y2: 276 });
    const stems = x.map((_, i) => add(left, "line", { x1: place(i), x2: place(i), y1: height(0), "stroke-width": 3, style: `stroke: ${COLOURS[i]}` }));
    const bars = x.map((_, i) => add(left, "rect", { x: place(i) - 17, width: 34, style: `fill: ${COLOURS[i]}` }));
    const labels = x.map((_, i) => add(left, "text", { x: place(i), "text-anchor": "middle" }));
    names.forEach((name, i) => add(left, "text", { class: "note", x: place(i), y: 293, "text-anchor": "middle" }, name));
    const handles = x.map((_, i) =>
      handle(left, {
        label: `number ${i + 1}`, colour: COLOURS[i], low: LOW, high: HIGH, step: STEP, vertical: true,
        get: () => x[i],
        set: (value) => { x[i] = value; draw(); },
        say: () => `${x[i].toFixed(2)}, weight ${acts.softmin(x, temperature)[i].toFixed(3)}`,
        move: (point) => LOW + ((165 - point.y) / 130) * (HIGH - LOW),
      }));

    const right = panel(stage, 320, 300, "The Jacobian of the weights, five by five");
    add(right, "text", { x: 34, y: 16, class: "note" }, "Jacobian: of each weight (row) by each number");
    const drawMatrix = matrix(right, 34, 26, 255, 5, names);

    slider(controls, "temperature T", -1, 1, 0, (power) => (10 ** power).toFixed(2), (power) => {
      temperature = 10 ** power;
      draw();
    });

    function draw() {
      const y = acts.softmin(x, temperature);
      const jacobian = acts.jacobian(y, -1 / temperature);
      x.forEach((value, i) => {
        stems[i].setAttribute("y2", height(value));
        bars[i].setAttribute("y", 276 - 62 * y[i]);
        bars[i].setAttribute("height", 62 * y[i]);
        labels[i].setAttribute("y", 270 - 62 * y[i]);
        labels[i].textContent = y[i].toFixed(3);
        handles[i](place(i), height(value));
      });
      drawMatrix(jacobian, Math.max(...jacobian.flat().map(Math.abs)));
      const most = y.indexOf(Math.max(...y));
      says.textContent =
        `${names[most]} has ${(100 * y[most]).toFixed(1)} % of the weight. If it grew by a little, ` +
        `its own weight would fall at the rate ${signed(jacobian[most][most], 3)} and the others would ` +
        "gain as much in all.";
      figure.state = { x: [...x], temperature, y, jacobian };
    }
    draw();
  }

  // ---- maxout: lines to drag, their envelope, its gradient --------------------------------------

  function maxout(figure, stage, controls, says) {
    const shapes = {
      "|x|": [[2, -2], [-2, 2]],
      ReLU: [[0, 0], [-2, 2]],
      "leaky ReLU": [[-0.2, 0.2], [-2, 2]],
      parabola: [[2, -4], [0.2, -1], [-1, 0.2], [-4, 2]],
    };
    let ends; // of each piece, its values at x = −2 and x = 2
    let at_x = 0.8;
    const X = (x) => 168 + 66 * x;
    const Y = (y) => 128 - 44 * y;
    const G = (g) => 128 - 36 * g;
    const pieces = () => ends.map(([a, b]) => ({ slope: (b - a) / 4, start: (a + b) / 2 }));

    function axes(label, title, scale, ticks) {
      const svg = panel(stage, 320, 270, label);
      add(svg, "text", { class: "note", x: 24, y: 14 }, title);
      for (const value of ticks) {
        add(svg, "line", { class: "axis", x1: X(-2), x2: X(2), y1: scale(value), y2: scale(value) });
        add(svg, "text", { class: "note", x: 20, y: scale(value) + 4, "text-anchor": "end" }, signed(value, 0));
      }
      for (const x of [-2, -1, 0, 1, 2]) {
        add(svg, "text", { class: "note", x: X(x), y: 266, "text-anchor": "middle" }, signed(x, 0));
      }
      return svg;
    }
    const svg = axes("A maxout unit and its pieces", "h(x): the largest of the pieces", Y, [-2, -1, 0, 1, 2]);
    const slopes = axes("The gradient of the unit", "dh/dx: the slope of the piece that wins", G, [-2, -1, 0, 1, 2]);
    const lines = add(svg, "g");
    const ink = { fill: "none", style: "stroke: var(--ink)", "stroke-linejoin": "round" };
    const envelope = add(svg, "path", { ...ink, "stroke-width": 4 });
    const gradient = add(slopes, "path", { ...ink, "stroke-width": 4 });
    const dashed = { y1: 24, y2: 238, "stroke-dasharray": "3 3", style: "stroke: var(--quiet)" };
    const probes = [add(svg, "line", dashed), add(slopes, "line", dashed)];
    const dots = [add(svg, "circle", { r: 5 }), add(slopes, "circle", { r: 5 })];
    const handles = add(svg, "g");
    let moves = [];
    const moveProbe = handle(svg, {
      label: "x", colour: "var(--ink)", low: -2, high: 2, step: 0.05, vertical: false,
      get: () => at_x,
      set: (value) => { at_x = value; draw(); },
      say: () => says.textContent,
      move: (point) => (point.x - 168) / 66,
    });

    for (const name of Object.keys(shapes)) {
      add(controls, "button", { type: "button" }, name).addEventListener("click", () => start(name));
    }

    function start(name) {
      ends = shapes[name].map((pair) => [...pair]);
      lines.replaceChildren();
      handles.replaceChildren();
      moves = [];
      ends.forEach((pair, i) => {
        add(lines, "line", { "stroke-width": 2, style: `stroke: ${COLOURS[i]}` });
        [0, 1].forEach((side) => {
          const move = handle(svg, {
            label: `piece ${i + 1}, ${side ? "right" : "left"} end`,
            colour: COLOURS[i], low: -2.2, high: 2.2, step: 0.05, vertical: true,
            get: () => clamp(pair[side], -2.2, 2.2),
            set: (value) => { pair[side] = value; draw(); },
            say: () => `${pair[side].toFixed(2)} at x = ${side ? 2 : -2}`,
            move: (point) => (128 - point.y) / 44,
          });
          handles.append(svg.lastChild);
          moves.push(() => move(X(side ? 2 : -2), Y(clamp(pair[side], -2.2, 2.2))));
        });
      });
      draw();
    }

    function draw() {
      const units = pieces();
      ends.forEach(([a, b], i) => {
        const line = lines.children[i];
        // a piece is drawn as far as it stays inside
        const inside = (x) => clamp(units[i].slope * x + units[i].start, -2.2, 2.2);
        const cut = (y) => (units[i].slope ? clamp((y - units[i].start) / units[i].slope, -2, 2) : 0);
        const from = a < -2.2 ? cut(-2.2) : -2;
        const to = b < -2.2 ? cut(-2.2) : 2;
        line.setAttribute("x1", X(from));
        line.setAttribute("x2", X(to));
        line.setAttribute("y1", Y(inside(from)));
        line.setAttribute("y2", Y(inside(to)));
      });
      const path = [];
      const steps = [];
      let before;
      for (let k = 0; k <= 400; k++) {
        const x = -2 + k / 100;
        const { y, gradient: slope, index } = acts.maxout(x, units);
        path.push(`${k ? "L" : "M"}${X(x).toFixed(1)} ${Y(clamp(y, -2.2, 2.2)).toFixed(1)}`);
        steps.push(`${index === before ? "L" : "M"}${X(x).toFixed(1)} ${G(slope).toFixed(1)}`);
        before = index;
      }
      envelope.setAttribute("d", path.join(""));
      gradient.setAttribute("d", steps.join(""));
      const here = acts.maxout(at_x, units);
      for (const probe of probes) {
        probe.setAttribute("x1", X(at_x));
        probe.setAttribute("x2", X(at_x));
      }
      dots.forEach((dot, i) => {
        dot.setAttribute("cx", X(at_x));
        dot.setAttribute("cy", i ? G(here.gradient) : Y(clamp(here.y, -2.2, 2.2)));
        dot.style.fill = COLOURS[here.index];
      });
      says.textContent =
        `At x = ${signed(at_x)} piece ${here.index + 1} wins: h = ${signed(here.y)}, ` +
        `dh/dx = ${signed(here.gradient)}. Only its weight and bias would be trained, the weight with ` +
        `dh/dW = x = ${signed(at_x)}.`;
      moves.forEach((move) => move());
      moveProbe(X(at_x), 244);
      figure.state = { pieces: units, x: at_x, ...here };
    }
    start("|x|");
  }

  // ---- softmax2d: a grid to paint, its probabilities, one position's Jacobian -------------------

  function softmax2d(figure, stage, controls, says) {
    const N = 8;
    const names = ["A", "B", "C"];
    const colours = COLOURS.slice(0, 3);
    let temperature = 1;
    let brush = 0;
    let current = [3, 4];
    const logits = names.map((_, c) =>
      Array.from({ length: N }, (_, h) => Array.from({ length: N }, (_, w) => {
        const [y, x] = [[2, 2], [5, 5], [1, 6]][c];
        return +(2.6 - 0.75 * Math.hypot(h - y, w - x)).toFixed(1);
      })));
    const at_position = (h, w) => logits.map((plane) => plane[h][w]);

    const left = panel(stage, 320, 320, "A grid of eight by eight positions, coloured by their probabilities");
    const grid = add(left, "g", { role: "grid", "aria-label": "positions: arrow keys move, space paints" });
    const side = 37;
    const cells = logits[0].map((_, h) => {
      const row = add(grid, "g", { role: "row" });
      return logits[0][0].map((_, w) => {
        const cell = add(row, "g", { class: "cell", role: "gridcell", tabindex: -1 });
        cell.style.outline = "none";
        cell.style.touchAction = "none";
        cell.style.cursor = "crosshair";
        const square = add(cell, "rect", { x: 12 + side * w, y: 12 + side * h, width: side - 2, height: side - 2, rx: 3 });
        const ring = add(cell, "rect", { class: "ring", x: 11 + side * w, y: 11 + side * h, width: side, height: side, rx: 4 });
        return { cell, square, ring };
      });
    });

    const right = panel(stage, 320, 320, "The probabilities of one position and its Jacobian");
    const title = add(right, "text", { x: 30, y: 20 });
    const bars = names.map((name, c) => {
      add(right, "text", { x: 22, y: 48 + 24 * c, "text-anchor": "end", class: "note" }, name);
      return {
        bar: add(right, "rect", { x: 30, y: 36 + 24 * c, height: 16, style: `fill: ${colours[c]}` }),
        text: add(right, "text", { y: 48 + 24 * c }),
      };
    });
    add(right, "text", { x: 30, y: 128, class: "note" }, "Jacobian: of each probability by each logit");
    const drawMatrix = matrix(right, 30, 138, 156, 3, names);

    const brushes = add(controls, "span", { role: "radiogroup", "aria-label": "class to paint" }, "paint ");
    names.forEach((name, c) => {
      const label = add(brushes, "label");
      label.style.marginRight = "0.5rem";
      const input = add(label, "input", { type: "radio", name: "brush", value: c });
      input.checked = c === 0;
      input.addEventListener("change", () => { brush = c; });
      add(label, "span", { class: "swatch", style: `background: ${colours[c]}` });
      label.append(name);
    });
    slider(controls, "temperature T", -1, 1, 0, (power) => (10 ** power).toFixed(2), (power) => {
      temperature = 10 ** power;
      draw();
    });

    function paint(h, w) {
      // as with a brush: less beside the position than on it
      for (let i = 0; i < N; i++) {
        for (let j = 0; j < N; j++) {
          const more = 1.2 * Math.exp(-((i - h) ** 2 + (j - w) ** 2) / 0.8);
          logits[brush][i][j] = clamp(logits[brush][i][j] + more, -6, 6);
        }
      }
      move(h, w);
    }

    function move(h, w) {
      current = [clamp(h, 0, N - 1), clamp(w, 0, N - 1)];
      draw();
    }

    function position(event) {
      const point = at(left, event);
      return [Math.floor((point.y - 11) / side), Math.floor((point.x - 11) / side)];
    }

    let last = "";
    grid.addEventListener("pointerdown", (event) => {
      const [h, w] = position(event).map((value) => clamp(value, 0, N - 1));
      grid.setPointerCapture(event.pointerId);
      last = `${h} ${w}`;
      paint(h, w);
      cells[h][w].cell.focus({ preventScroll: true });
      event.preventDefault();
    });
    grid.addEventListener("pointermove", (event) => {
      const [h, w] = position(event);
      if (h < 0 || w < 0 || h >= N || w >= N || last === `${h} ${w}`) return;
      last = `${h} ${w}`;
      if (grid.hasPointerCapture(event.pointerId)) paint(h, w);
      else move(h, w);
    });
    grid.addEventListener("keydown", (event) => {
      const [h, w] = current;
      if (event.key === "ArrowUp") move(h - 1, w);
      else if (event.key === "ArrowDown") move(h + 1, w);
      else if (event.key === "ArrowLeft") move(h, w - 1);
      else if (event.key === "ArrowRight") move(h, w + 1);
      else if (event.key === " " || event.key === "Enter") paint(h, w);
      else return;
      cells[current[0]][current[1]].cell.focus({ preventScroll: true });
      event.preventDefault();
    });

    function draw() {
      cells.forEach((row, h) => row.forEach(({ cell, square, ring }, w) => {
        const y = acts.softmax(at_position(h, w), 1 / temperature);
        const here = h === current[0] && w === current[1];
        // the colours mixed by probability, two and then the third
        const two = y[0] + y[1] > 0 ? (100 * y[0]) / (y[0] + y[1]) : 50;
        square.style.fill =
          `color-mix(in srgb, color-mix(in srgb, ${colours[0]} ${two}%, ${colours[1]}) ` +
          `${100 * (y[0] + y[1])}%, ${colours[2]})`;
        ring.style.stroke = here ? "var(--ink)" : "";
        ring.style.strokeWidth = here ? 2.5 : "";
        cell.setAttribute("tabindex", here ? 0 : -1);
        const most = y.indexOf(Math.max(...y));
        cell.setAttribute("aria-label", `row ${h}, column ${w}: ${names[most]} ${y[most].toFixed(2)}`);
      }));
      const x = at_position(...current);
      const y = acts.softmax(x, 1 / temperature);
      const jacobian = acts.jacobian(y, 1 / temperature);
      title.textContent = `position (${current.join(", ")})`;
      bars.forEach(({ bar, text }, c) => {
        bar.setAttribute("width", Math.max(200 * y[c], 0.5));
        text.setAttribute("x", 36 + 200 * y[c]);
        text.textContent = `${y[c].toFixed(3)}, logit ${signed(x[c], 1)}`;
      });
      drawMatrix(jacobian, Math.max(...jacobian.flat().map(Math.abs)));
      const most = y.indexOf(Math.max(...y));
      says.textContent =
        `At (${current.join(", ")}) class ${names[most]} has ${(100 * y[most]).toFixed(1)} %; the ` +
        `entropy is ${acts.entropy(y).toFixed(2)} of ${Math.log2(3).toFixed(2)} bits.`;
      figure.state = { position: [...current], logits: x, temperature, y, jacobian };
    }
    draw();
  }

  const FIGURES = { softmin, maxout, softmax2d };

  document.querySelectorAll("figure[data-interactive]").forEach((figure) => {
    const caption = figure.querySelector("figcaption");
    const frame = document.createElement("div");
    caption.before(frame);
    const controls = add(frame, "div", { class: "controls" });
    const stage = add(frame, "div", { class: "stage" });
    const says = add(frame, "p", { class: "says", "aria-live": "polite" });
    FIGURES[figure.dataset.interactive](figure, stage, controls, says);
  });
})();
