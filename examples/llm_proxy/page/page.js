"use strict";

// A minute of what came, four times a second.
const KEPT = 240;
const history = [];
const at = (id) => document.getElementById(id);
const number = (n) => (n === null || n === undefined ? "–" : n >= 100 ? Math.round(n).toLocaleString("en") : n >= 10 ? n.toFixed(0) : n.toFixed(1));
const time = (ms) => (ms === null ? "–" : ms >= 10000 ? `${(ms / 1000).toFixed(0)} s` : ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`);
const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);

// Each chart is a list of series: what to draw, in which colour, as an area, a line, or on top of those before.
const CHARTS = {
  flight: [
    { of: (live) => live.gate && live.on ? live.gate.in_flight : live.open, colour: "--a", area: true },
    { of: (live) => live.gate && live.on ? live.gate.limit : null, colour: "--b" },
    { of: (live) => live.gate ? live.gate.waiting || null : null, colour: "--muted" },
  ],
  ttft: [
    { of: (live) => live.first_token[0], colour: "--a" },
    { of: (live) => live.first_token[1], colour: "--c" },
  ],
  tokens: [{ of: (live) => live.per_second.tokens, colour: "--a", area: true }],
  requests: [
    { of: (live) => live.per_second.answered, colour: "--a", stack: true },
    { of: (live) => sum(live.per_second.refused), colour: "--c", stack: true },
    { of: (live) => live.per_second.broken, colour: "--d", stack: true },
    { of: (live) => live.per_second.left, colour: "--muted", stack: true },
  ],
  engine: [
    { of: (live) => live.engine ? live.engine.running : null, colour: "--a", stack: true },
    { of: (live) => live.engine ? live.engine.waiting : null, colour: "--c", stack: true },
  ],
};

function draw(canvas) {
  const style = getComputedStyle(document.documentElement);
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const series = CHARTS[canvas.dataset.chart];
  const base = new Array(history.length).fill(0);
  const drawn = series.map((one) => {
    const values = history.map(one.of);
    if (!one.stack) return { ...one, values, under: null };
    const under = base.slice();
    values.forEach((value, nth) => { base[nth] += value || 0; });
    return { ...one, values: base.slice(), under };
  });
  const top = 1.12 * Math.max(1e-9, ...drawn.flatMap((one) => one.values.map((value) => value || 0)));
  const x = (nth) => width - (history.length - 1 - nth) * (width / (KEPT - 1));
  const y = (value) => height - 1 - (value / top) * (height - 4);
  pen.lineJoin = "round";
  pen.lineWidth = 1.6;
  pen.strokeStyle = style.getPropertyValue("--edge");
  pen.beginPath();
  pen.moveTo(0, height - 0.5);
  pen.lineTo(width, height - 0.5);
  pen.stroke();
  for (const { values, under, colour, area, stack } of drawn) {
    pen.strokeStyle = pen.fillStyle = style.getPropertyValue(colour);
    // Where nothing is known there is a gap.
    for (let from = 0; from < values.length; from += 1) {
      if (values[from] === null || values[from] === undefined) continue;
      let to = from;
      while (to + 1 < values.length && values[to + 1] !== null && values[to + 1] !== undefined) to += 1;
      pen.beginPath();
      for (let nth = from; nth <= to; nth += 1) pen.lineTo(x(nth), y(values[nth]));
      if (!stack) pen.stroke();
      if (area || stack) {
        if (under) for (let nth = to; nth >= from; nth -= 1) pen.lineTo(x(nth), y(under[nth]));
        else { pen.lineTo(x(to), height); pen.lineTo(x(from), height); }
        pen.globalAlpha = stack ? 0.75 : Number(style.getPropertyValue("--fill"));
        pen.fill();
        pen.globalAlpha = 1;
      }
      from = to;
    }
  }
}

function show(live) {
  history.push(live);
  if (history.length > KEPT) history.shift();
  const text = (id, value) => { if (at(id).textContent !== value) at(id).textContent = value; };
  const { gate, engine, load, per_second: rate } = live;
  text("about", engine
    ? `before an embedded engine, ${engine.name}: ${engine.places} answers at once, ${number(engine.capacity)} requests per second`
    : `before ${live.upstream}`);
  at("on").checked = live.on;
  text("on-text", live.draining ? "draining" : live.on ? "layer on" : "layer off");
  document.body.dataset.on = live.on;
  text("in-flight", String(gate && live.on ? gate.in_flight : live.open));
  text("limit-text", gate && live.on ? `of ${gate.limit} that may run` : "and no limit");
  text("ttft", time(live.first_token[0]));
  text("ttft-text", live.first_token[1] === null ? "none lately" : `median; 99 of 100 within ${time(live.first_token[1])}`);
  text("tokens", number(rate.tokens));
  text("answered", number(rate.answered));
  text("answered-text", `answered, of ${number(rate.arrived)} that come`);
  text("refused", number(sum(rate.refused)));
  reasons(rate.refused);
  at("card-engine").hidden = !engine;
  if (engine) {
    text("running", String(engine.running));
    text("running-text", `running, ${engine.waiting} in its line`);
  }
  at("load-set").disabled = !load;
  at("fault-set").disabled = !live.faults;
  if (load && document.activeElement !== at("load")) at("load").value = load.multiple;
  if (load) text("load-text", load.multiple ? `${load.multiple}× · ${number(load.per_second)} per second` : "none");
  if (load) text("tokens-text", load.ended ? `${number(100 * load.good / load.ended)} % of all clients got their answer in time` : "");
  for (const input of document.querySelectorAll("[data-fault]")) {
    if (!live.faults) continue;
    const value = live.faults[input.dataset.fault];
    if (input.type === "checkbox") input.checked = value;
    else {
      if (document.activeElement !== input) input.value = value;
      input.parentElement.querySelector("output").textContent = value ? `${Math.round(100 * value)} %` : "never";
    }
  }
  const faulty = Object.entries(live.faults ?? {}).filter(([name, value]) => value && !name.startsWith("refuse_"));
  text("fault-text", faulty.length ? `${faulty.length} of 5` : "none");
  document.querySelectorAll("canvas").forEach(draw);
}

function reasons(refused) {
  const some = Object.entries(refused).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  const most = Math.max(...some.map(([, count]) => count), 1e-9);
  const items = some.map(([reason, count]) => {
    const item = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = reason.replace("_", " ");
    const bar = document.createElement("div");
    bar.className = "bar";
    bar.style.width = `${Math.max(1, 100 * count / most)}%`;
    const value = document.createElement("b");
    value.textContent = number(count);
    item.append(name, bar, value);
    return item;
  });
  if (items.length === 0) {
    const none = document.createElement("li");
    none.className = "none";
    none.textContent = "nobody";
    items.push(none);
  }
  at("reasons").replaceChildren(...items);
}

async function control(change) {
  const response = await fetch("/control", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(change),
  });
  if (!response.ok) at("status").textContent = await response.text();
}

at("on").addEventListener("change", (event) => control({ on: event.target.checked }));
at("load").addEventListener("input", (event) => control({ load: Number(event.target.value) }));
at("fault-set").addEventListener("input", () => {
  const faults = { ...(history.at(-1)?.faults ?? {}) };
  for (const input of document.querySelectorAll("[data-fault]")) {
    faults[input.dataset.fault] = input.type === "checkbox" ? input.checked : Number(input.value);
  }
  control({ faults });
});
at("controls").addEventListener("submit", (event) => event.preventDefault());

const source = new EventSource("/live");
source.onopen = () => { at("status").textContent = "live"; };
source.onmessage = (event) => show(JSON.parse(event.data));
source.onerror = () => { at("status").textContent = "not connected; trying again"; };
addEventListener("resize", () => document.querySelectorAll("canvas").forEach(draw));
