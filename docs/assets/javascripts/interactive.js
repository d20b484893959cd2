// The interactive figures: SVG that is drawn anew from a few numbers whenever one of them changes.
// A figure is mounted where a page has <figure data-interactive="name">; without JavaScript the
// picture there remains.

(() => {
  const COLOURS = [1, 2, 3, 4, 5].map((i) => `var(--series-${i})`);
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  // Where digits after the point are a step's, not a result's.
  const fixed = (value, digits = 2) => {
    const text = value.toFixed(digits);
    return +text === 0 ? "0" : text.replace("-", "−");
  };
  const { significant } = acts;

  // Words in the page's language; {name} in them is a value.
  const chinese = document.documentElement.lang.startsWith("zh");
  const say = (text, values = {}) =>
    (chinese ? CHINESE[text] : text).replace(/\{(\w+)\}/g, (_, name) => values[name]);

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
  function handle(svg, { label, mark = "", colour, low, high, step, vertical, get, set, say, move }) {
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
    add(group, "circle", { r: mark ? 9 : 7, style: `stroke: ${colour}` });
    add(group, "text", { y: 4, "text-anchor": "middle" }, mark);
    add(group, "circle", { class: "ring", r: 13 });
    const change = (value) => set(clamp(Math.round(value / step) * step, low, high));
    group.addEventListener("pointerdown", (event) => {
      group.setPointerCapture(event.pointerId);
      group.focus({ preventScroll: true });
      event.preventDefault();
    });
    // a drag scrolls no page; of parts of an SVG browsers don't ask their style
    group.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
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

  // A matrix as squares with numbers, whose colours grow with the root of a number's share of `limit`;
  // returns how to draw another one.
  function matrix(svg, left, top, size, limit, rows, columns) {
    const side = size / rows.length;
    const cells = rows.map((name, i) => {
      const middle = top + (i + 0.5) * side + 4;
      add(svg, "text", { x: left - 6, y: middle, "text-anchor": "end", class: "note" }, name);
      return columns.map((_, j) => {
        const place = { x: left + j * side, y: top + i * side };
        const square = add(svg, "rect", { ...place, width: side, height: side, style: "stroke: var(--line)" });
        return [square, add(svg, "text", { x: place.x + side / 2, y: middle, "text-anchor": "middle" })];
      });
    });
    columns.forEach((name, j) => {
      add(svg, "text", { x: left + (j + 0.5) * side, y: top + size + 15, "text-anchor": "middle", class: "note" }, name);
    });
    return (values) => cells.forEach((row, i) => row.forEach(([square, text], j) => {
      const value = values[i][j];
      const share = 60 * Math.sqrt(Math.min(Math.abs(value) / limit, 1));
      const colour = value < 0 ? "var(--red)" : "var(--blue)";
      square.style.fill = `color-mix(in srgb, ${colour} ${share.toFixed(1)}%, var(--paper))`;
      text.textContent = significant(value);
    }));
  }

  // |β(y δ − y y)| is at most a quarter of |β|: for all temperatures that a slider gives.
  const COLDEST = -1;
  const LIMIT = 10 ** -COLDEST / 4;
  const temperatureSlider = (controls, changed) =>
    slider(controls, say("temperature T"), COLDEST, 1, 0, (power) => (10 ** power).toFixed(2), (power) =>
      changed(10 ** power));

  // ---- softmin: five numbers, a temperature, the weights, the Jacobian --------------------------

  function softmin(figure, stage, controls, says) {
    const x = [0.4, 1.0, 2.2, 3.0, 3.6];
    const [LOW, HIGH, STEP] = [0, 4, 0.05];
    let temperature = 1;
    const [names, weights] = ["x", "y"].map((letter) => x.map((_, i) => letter + "₁₂₃₄₅"[i]));
    const place = (i) => 46 + 56 * i;
    const height = (value) => 165 - (130 * (value - LOW)) / (HIGH - LOW);

    const left = panel(stage, 320, 300, say("Five numbers to drag, and their softmin weights as bars"));
    add(left, "text", { x: 18, y: 16, class: "note" }, say("numbers: drag"));
    for (const value of [0, 1, 2, 3, 4]) {
      add(left, "line", { class: "axis", x1: 24, x2: 300, y1: height(value), y2: height(value) });
      add(left, "text", { class: "note", x: 18, y: height(value) + 4, "text-anchor": "end" }, value);
    }
    add(left, "text", { x: 18, y: 202, class: "note" }, say("weights"));
    add(left, "line", { class: "axis", x1: 24, x2: 300, y1: 276, y2: 276 });
    const stems = x.map((_, i) => add(left, "line", { x1: place(i), x2: place(i), y1: height(0), "stroke-width": 3, style: `stroke: ${COLOURS[i]}` }));
    const bars = x.map((_, i) => add(left, "rect", { x: place(i) - 17, width: 34, style: `fill: ${COLOURS[i]}` }));
    const labels = x.map((_, i) => add(left, "text", { x: place(i), "text-anchor": "middle" }));
    weights.forEach((name, i) => add(left, "text", { class: "note", x: place(i), y: 293, "text-anchor": "middle" }, name));
    names.forEach((name, i) => add(left, "text", { class: "note", x: place(i), y: 182, "text-anchor": "middle" }, name));
    const handles = x.map((_, i) =>
      handle(left, {
        label: say("number {i}", { i: i + 1 }), colour: COLOURS[i], low: LOW, high: HIGH, step: STEP, vertical: true,
        get: () => x[i],
        set: (value) => { x[i] = value; draw(); },
        say: () => say("{x}, weight {y}", { x: fixed(x[i]), y: significant(acts.softmin(x, temperature)[i], 3) }),
        move: (point) => LOW + ((165 - point.y) / 130) * (HIGH - LOW),
      }));

    const right = panel(stage, 320, 300, say("The Jacobian of the weights, five by five"));
    add(right, "text", { x: 34, y: 16, class: "note" }, say("Jacobian: of each weight (row) by each number"));
    const drawMatrix = matrix(right, 34, 26, 255, LIMIT, weights, names);

    temperatureSlider(controls, (value) => {
      temperature = value;
      draw();
    });

    function draw() {
      const y = acts.softmin(x, temperature);
      const jacobian = acts.jacobian(y, -1 / temperature);
      x.forEach((value, i) => {
        stems[i].setAttribute("y2", height(value));
        bars[i].setAttribute("y", 276 - 50 * y[i]);
        bars[i].setAttribute("height", 50 * y[i]);
        labels[i].setAttribute("y", 270 - 50 * y[i]);
        labels[i].textContent = significant(y[i], 3);
        handles[i](place(i), height(value));
      });
      drawMatrix(jacobian);
      const most = y.indexOf(Math.max(...y));
      says.textContent = say(
        "{name} has {share} % of the weight. If {x} grew by a little, {name} would fall at the rate " +
        "{rate} and the others would gain as much in all.",
        { name: weights[most], x: names[most], share: significant(100 * y[most], 3), rate: significant(jacobian[most][most], 3) },
      );
      figure.state = { x: [...x], temperature, y, jacobian };
    }
    draw();
  }

  // ---- maxout: lines to drag, their envelope, its gradient --------------------------------------

  function maxout(figure, stage, controls, says) {
    const parabola = say("parabola");
    const shapes = {
      "|x|": [[2, -2], [-2, 2]],
      ReLU: [[0, 0], [-2, 2]],
      "leaky ReLU": [[-0.2, 0.2], [-2, 2]],
      // tangents of the target
      [parabola]: [-1.5, -0.5, 0.5, 1.5].map((x) => [-2, 2].map((end) => target(x) + 1.6 * x * (end - x))),
    };
    function target(x) { return 0.8 * x * x - 1; }
    const EDGE = 2.2; // what is higher or lower is cut off
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
        add(svg, "text", { class: "note", x: 20, y: scale(value) + 4, "text-anchor": "end" }, fixed(value, 0));
      }
      for (const x of [-2, -1, 0, 1, 2]) {
        add(svg, "text", { class: "note", x: X(x), y: 266, "text-anchor": "middle" }, fixed(x, 0));
      }
      return svg;
    }
    const svg = axes(say("A maxout unit and its pieces"), say("h(x): the largest of the pieces"), Y, [-2, -1, 0, 1, 2]);
    const slopes = axes(say("The gradient of the unit"), say("dh/dx: the slope of the piece that wins"), G, [-2, -1, 0, 1, 2]);
    const lines = add(svg, "g");
    const aim = { class: "target", fill: "none", "stroke-width": 2, "stroke-dasharray": "2 4", style: "stroke: var(--ink)" };
    const targets = [[svg, target, Y], [slopes, (x) => 1.6 * x, G]].map(([where, curve, scale]) => {
      const points = Array.from({ length: 81 }, (_, k) => -2 + k / 20);
      const d = points.map((x, k) => `${k ? "L" : "M"}${X(x)} ${scale(curve(x)).toFixed(1)}`).join("");
      return add(where, "path", { ...aim, d });
    });
    const formula = add(svg, "text", { class: "note", x: X(2), y: 14, "text-anchor": "end" },
      say("target: {formula}", { formula: "0.8 x² − 1" }));
    const tie = add(svg, "text", {}, say("tie"));
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
      for (const part of [...targets, formula]) part.style.display = name === parabola ? "" : "none";
      ends = shapes[name].map((pair) => [...pair]);
      lines.replaceChildren();
      handles.replaceChildren();
      moves = [];
      ends.forEach((pair, i) => {
        add(lines, "line", { "stroke-width": 2, style: `stroke: ${COLOURS[i]}` });
        [0, 1].forEach((side) => {
          // the end of a line that leaves the frame is where it leaves it
          const end = () => visible(i)[side];
          const other = () => pair[1 - side];
          const move = handle(svg, {
            label: say(side ? "piece {i}, right end" : "piece {i}, left end", { i: i + 1 }),
            mark: i + 1, colour: COLOURS[i], low: -8, high: EDGE, step: 0.05, vertical: true,
            get: () => pair[side],
            set: (value) => { pair[side] = Math.max(value, other() < -EDGE ? -EDGE : -8); draw(); },
            say: () => say("{y} at x = {x}", { y: fixed(pair[side]), x: side ? 2 : "−2" }),
            move: (point) => {
              const y = clamp((128 - point.y) / 44, -EDGE, EDGE);
              const reach = Math.abs(end().x - (side ? -2 : 2));
              return other() + ((y - other()) * 4) / reach;
            },
          });
          handles.append(svg.lastChild);
          moves.push(() => move(X(end().x), Y(end().y)));
        });
      });
      draw();
    }

    // The ends of a piece, or where it is cut off.
    function visible(i) {
      const { slope, start } = pieces()[i];
      return ends[i].map((y, side) => {
        const inside = clamp(y, -EDGE, EDGE);
        return { x: inside === y ? (side ? 2 : -2) : (inside - start) / slope, y: inside };
      });
    }

    function draw() {
      const units = pieces();
      ends.forEach((_, i) => {
        const [from, to] = visible(i);
        const line = lines.children[i];
        line.setAttribute("x1", X(from.x));
        line.setAttribute("x2", X(to.x));
        line.setAttribute("y1", Y(from.y));
        line.setAttribute("y2", Y(to.y));
      });
      const path = [];
      const steps = [];
      let before;
      for (let k = 0; k <= 400; k++) {
        const x = -2 + k / 100;
        const { y, gradient: slope, index } = acts.maxout(x, units);
        path.push(`${k ? "L" : "M"}${X(x).toFixed(1)} ${Y(clamp(y, -EDGE, EDGE)).toFixed(1)}`);
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
        dot.setAttribute("cy", i ? G(here.gradient) : Y(clamp(here.y, -EDGE, EDGE)));
        dot.style.fill = COLOURS[here.index];
      });
      const tied = here.tied.length > 1;
      tie.style.display = tied ? "" : "none";
      tie.setAttribute("x", X(at_x) + 8);
      tie.setAttribute("y", Y(clamp(here.y, -EDGE, EDGE)) - 20);
      const all = here.tied.map((i) => i + 1).join(say(" and "));
      const found = { x: fixed(at_x), i: here.index + 1, all, h: significant(here.y, 3), slope: significant(here.gradient, 3) };
      says.textContent = tied
        ? say(
          "At x = {x} pieces {all} tie: h = {h}. The first wins, as everywhere in the library, and gets " +
          "the whole gradient: dh/dx = {slope}, dh/dW = x = {x}.", found)
        : say(
          "At x = {x} piece {i} wins: h = {h}, dh/dx = {slope}. Only its weight and bias would be " +
          "trained, the weight with dh/dW = x = {x}.", found);
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

    const left = panel(stage, 320, 320, say("A grid of eight by eight positions, coloured by their probabilities"));
    const grid = add(left, "g", { role: "grid", "aria-label": say("positions: arrow keys move, space paints") });
    const side = 37;
    const cells = logits[0].map((_, h) => {
      const row = add(grid, "g", { role: "row" });
      return logits[0][0].map((_, w) => {
        const cell = add(row, "g", { class: "cell", role: "gridcell", tabindex: -1 });
        cell.style.outline = "none";
        cell.style.cursor = "crosshair";
        const square = add(cell, "rect", { x: 12 + side * w, y: 12 + side * h, width: side - 2, height: side - 2, rx: 3 });
        const ring = add(cell, "rect", { class: "ring", x: 11 + side * w, y: 11 + side * h, width: side, height: side, rx: 4 });
        const letter = add(cell, "text", { x: 11 + side * (w + 0.5), y: 15 + side * (h + 0.5), "text-anchor": "middle" });
        return { cell, square, ring, letter };
      });
    });

    const right = panel(stage, 320, 320, say("The probabilities of one position and its Jacobian"));
    const title = add(right, "text", { x: 30, y: 20 });
    const bars = names.map((name, c) => {
      add(right, "text", { x: 22, y: 48 + 24 * c, "text-anchor": "end", class: "note" }, name);
      return {
        bar: add(right, "rect", { x: 30, y: 36 + 24 * c, height: 16, style: `fill: ${colours[c]}` }),
        text: add(right, "text", { y: 48 + 24 * c }),
      };
    });
    add(right, "text", { x: 30, y: 128, class: "note" }, say("Jacobian: of each probability by each logit"));
    const drawMatrix = matrix(right, 30, 138, 156, LIMIT, names, names);

    const brushes = add(controls, "span", { role: "radiogroup", "aria-label": say("class to paint") }, `${say("paint")} `);
    names.forEach((name, c) => {
      const label = add(brushes, "label");
      label.style.marginRight = "0.5rem";
      const input = add(label, "input", { type: "radio", name: "brush", value: c });
      input.checked = c === 0;
      input.addEventListener("change", () => { brush = c; });
      add(label, "span", { class: "swatch", style: `background: ${colours[c]}` });
      label.append(name);
    });
    temperatureSlider(controls, (value) => {
      temperature = value;
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

    // A finger that goes up or down scrolls the page; one that taps or goes sideways paints.
    left.style.touchAction = "pan-y";
    let last = "";
    let pressed; // a position that is painted once it is known that the page doesn't scroll

    function begin() {
      if (!pressed) return;
      paint(...pressed);
      cells[pressed[0]][pressed[1]].cell.focus({ preventScroll: true });
      pressed = undefined;
    }

    grid.addEventListener("pointerdown", (event) => {
      pressed = position(event).map((value) => clamp(value, 0, N - 1));
      last = pressed.join(" ");
      grid.setPointerCapture(event.pointerId);
      if (event.pointerType !== "touch") begin();
      event.preventDefault();
    });
    grid.addEventListener("pointermove", (event) => {
      const [h, w] = position(event);
      if (h < 0 || w < 0 || h >= N || w >= N || last === `${h} ${w}`) return;
      last = `${h} ${w}`;
      if (!grid.hasPointerCapture(event.pointerId)) return move(h, w);
      begin();
      paint(h, w);
    });
    grid.addEventListener("pointerup", begin);
    grid.addEventListener("pointercancel", () => { pressed = undefined; });
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
      cells.forEach((row, h) => row.forEach(({ cell, square, ring, letter }, w) => {
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
        letter.textContent = names[most];
        cell.setAttribute("aria-label", say("row {h}, column {w}: {name} {p}", { h, w, name: names[most], p: significant(y[most]) }));
      }));
      const x = at_position(...current);
      const y = acts.softmax(x, 1 / temperature);
      const jacobian = acts.jacobian(y, 1 / temperature);
      title.textContent = say("position ({at})", { at: current.join(", ") });
      bars.forEach(({ bar, text }, c) => {
        bar.setAttribute("width", Math.max(200 * y[c], 0.5));
        text.setAttribute("x", 36 + 200 * y[c]);
        text.textContent = say("{p}, logit {x}", { p: significant(y[c], 3), x: fixed(x[c], 1) });
      });
      drawMatrix(jacobian);
      const most = y.indexOf(Math.max(...y));
      says.textContent = say("At ({at}) class {name} has {share} %; the entropy is {entropy} of {most} bits.", {
        at: current.join(", "), name: names[most], share: significant(100 * y[most], 3),
        entropy: significant(acts.entropy(y), 3), most: Math.log2(3).toFixed(2),
      });
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
