// Draws the charts of the page's data with uPlot: hover and zoom are the same in all of them.
"use strict";
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById("data").textContent);
  const reset = document.getElementById("reset");
  const boxes = [];
  let zoom = null;

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const digits = (value, n) => String(Number(value.toPrecision(n)));
  const short = (value) =>
    value >= 1e6 ? digits(value / 1e6, 3) + " M" : value >= 1e4 ? digits(value / 1e3, 3) + " k" : digits(value, 3);
  const bytes = (v) => {
    let n = 0;
    for (; v >= 1024 && n < 4; n++) v /= 1024;
    return digits(v, 3) + " " + ["B", "KiB", "MiB", "GiB", "TiB"][n];
  };
  const units = {
    bytes,
    "bytes per second": (v) => bytes(v) + "/s",
    percent: (v) => digits(v, 3) + " %",
    seconds: (v) => (v < 1 ? digits(v * 1000, 3) + " ms" : digits(v, 3) + " s"),
    share: (v) => digits(v * 100, 4) + " %",
    dollars: (v) => "$" + digits(v, 3),
    "": short,
  };
  const show = (unit, value) => (value == null ? "-" : value === 0 ? "0" : units[unit](value));
  const two = (n) => String(n).padStart(2, "0");
  // Since the start of the run, or of a day (UTC) where the page knows its start.
  const clock = (seconds) => {
    if (data.start) {
      const text = new Date((data.start + seconds) * 1000).toISOString();
      return data.span < 86400 ? text.slice(11, 19) : text.slice(5, 16).replace("T", " ");
    }
    const all = Math.round(seconds), hours = Math.floor(all / 3600);
    const rest = two(Math.floor(all / 60) % 60) + ":" + two(all % 60);
    return hours ? hours + ":" + rest : rest;
  };
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

  function columns(lines) {
    const used = [...new Set(lines.map((line) => line.table))];
    const tables = used.map((table) => [
      data.tables[table],
      ...lines.filter((line) => line.table === table).map((line) => line.values),
    ]);
    // So that all charts have the same times, whichever their lines have.
    return uPlot.join([[[0, data.span]], ...tables]);
  }

  // Warm-up and ramp-down, which do not count, and the times of events.
  function bands(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = css("--band");
    for (const [start, end] of data.bands) {
      const left = Math.max(plot.valToPos(start, "x", true), bbox.left);
      const right = Math.min(plot.valToPos(end, "x", true), bbox.left + bbox.width);
      if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    ctx.strokeStyle = css("--muted");
    ctx.setLineDash([4, 4]);
    for (const mark of data.marks || []) {
      const at = plot.valToPos(mark, "x", true);
      if (at < bbox.left || at > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  function zoomed(plot, key) {
    if (key !== "x") return;
    const { min, max } = plot.scales.x;
    const times = plot.data[0];
    zoom = times.length && min <= times[0] && max >= times[times.length - 1] ? null : { min, max };
    reset.hidden = !zoom;
    for (const { plot: other } of boxes) {
      const scale = other && other !== plot && other.scales.x;
      if (scale && scale.min != null && (scale.min !== min || scale.max !== max)) other.setScale("x", { min, max });
    }
  }

  const axis = (more) => ({
    stroke: css("--muted"),
    grid: { stroke: css("--line"), width: 1 },
    ticks: { stroke: css("--line"), width: 1, size: 4 },
    font: "12px system-ui,sans-serif",
    ...more,
  });

  function options(chart, lines, width) {
    const range = chart.top ? () => [0, chart.top] : (_, __, max) => [0, max > 0 ? max * 1.08 : 1];
    return {
      width,
      height: 220,
      padding: [8, data.start ? 30 : 18, 0, 0],
      scales: { x: { time: false, range: (_, a, b) => (a === b ? [a - 5, a + 5] : [a, b]) }, y: { range } },
      cursor: { sync: { key: "run", setSeries: false }, drag: { x: true, y: false }, points: { size: 6 } },
      axes: [
        axis({ size: 30, incrs: steps, space: 64, values: (_, all) => all.map(clock) }),
        axis({
          size: (_, values) => 14 + 7 * Math.max(3, ...(values || []).map((text) => text.length)),
          values: (_, all) => all.map((v) => (chart.top && v > 1 ? "" : show(chart.unit, v))),
          space: 36,
        }),
      ],
      series: [
        { label: "time", value: (_, v) => (v == null ? "-" : clock(v)) },
        ...lines.map((line) => ({
          label: line.name,
          stroke: css("--c" + (line.color % 8)),
          width: 1.6,
          points: { fill: css("--back") },
          dash: line.dash ? [6, 4] : undefined,
          value: (_, v) => show(chart.unit, v),
        })),
      ],
      hooks: { setScale: [zoomed], drawClear: [bands] },
    };
  }

  function draw(box) {
    const { chart, node, select } = box;
    const found = chart.choices ? chart.choices[select.selectedIndex][1] : chart.lines;
    const lines = [...found].sort((a, b) => a.table - b.table);
    if (box.plot) box.plot.destroy();
    box.plot = null;
    box.width = node.clientWidth;
    const plot = new uPlot(options(chart, lines, box.width), columns(lines), node);
    box.plot = plot;
    if (zoom) plot.setScale("x", zoom);
  }

  function add(chart) {
    if (chart.group && (!boxes.length || boxes[boxes.length - 1].chart.group !== chart.group))
      document.getElementById("charts").appendChild(document.createElement("h2")).textContent = chart.group;
    const section = document.createElement("section");
    const head = section.appendChild(document.createElement("h3"));
    head.textContent = chart.title;
    let select = null;
    if (chart.choices) {
      select = head.appendChild(document.createElement("select"));
      select.setAttribute("aria-label", chart.title);
      for (const [name] of chart.choices) select.appendChild(document.createElement("option")).textContent = name;
      select.selectedIndex = chart.chosen;
    }
    if (chart.note) head.appendChild(document.createElement("small")).textContent = chart.note;
    const node = section.appendChild(document.createElement("div"));
    node.className = "plot";
    const box = { chart, node, select, plot: null, width: 0 };
    if (select) select.addEventListener("change", () => draw(box));
    document.getElementById("charts").appendChild(section);
    boxes.push(box);
  }

  const all = () => {
    const kept = zoom;
    for (const box of boxes) {
      zoom = kept;
      draw(box);
    }
  };
  data.charts.forEach(add);
  all();
  reset.addEventListener("click", () => {
    zoom = null;
    for (const { plot } of boxes) plot.setScale("x", { min: 0, max: data.span });
  });
  new ResizeObserver(() => {
    for (const box of boxes)
      if (box.plot && box.width !== box.node.clientWidth) {
        box.width = box.node.clientWidth;
        box.plot.setSize({ width: box.width, height: 220 });
      }
  }).observe(document.getElementById("charts"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", all);
  // On paper, the colors are those of a light screen.
  addEventListener("beforeprint", () => {
    root.dataset.theme = "light";
    all();
  });
  addEventListener("afterprint", () => {
    delete root.dataset.theme;
    all();
  });
})();
