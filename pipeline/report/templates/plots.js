"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report").textContent);
  const videos = JSON.parse(document.getElementById("videos").textContent);
  const narrow = matchMedia("(max-width: 520px)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const text = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const palette = () => ["accent", "second", "third", "fourth", "fifth", "soft"].map(color);

  function layout(x, y, more) {
    const axis = (title) => ({
      title: { text: title, font: { size: 12, color: color("soft") }, standoff: 8 },
      gridcolor: color("line"), linecolor: color("line"), zeroline: false, automargin: true,
      tickfont: { size: 11.5, color: color("soft") }, fixedrange: narrow.matches,
    });
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("ink") },
      margin: { l: 8, r: 10, t: 10, b: 8 }, height: 300, bargap: 0.12, showlegend: false,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 11.5 } },
      hoverlabel: { bgcolor: color("card"), bordercolor: color("line"), font: { color: color("ink"), size: 12 } },
      xaxis: axis(x), yaxis: axis(y),
    };
    for (const key of Object.keys(more || {})) base[key] = { xaxis: 1, yaxis: 1 }[key] ? Object.assign(base[key], more[key]) : more[key];
    return base;
  }

  // A count has no halves: few of them get a tick each.
  const whole = (most) => (most < 8 ? { dtick: 1, rangemode: "tozero" } : { rangemode: "tozero" });

  function draw(id, data, shape) {
    const place = document.getElementById(id);
    if (!place) return;
    if (!data.length || !data.some((trace) => (trace.x || trace.z || []).length)) {
      place.className = "empty";
      place.textContent = "Nothing to show yet.";
      return;
    }
    Plotly.react(place, data, shape, { displayModeBar: false, responsive: true });
  }

  function groups(points) {
    const found = new Map();
    for (const point of points) {
      if (!found.has(point.group)) found.set(point.group, []);
      found.get(point.group).push(point);
    }
    return [...found.entries()].sort((a, b) => (a[0] < b[0] ? -1 : 1));
  }

  function scatter(points) {
    return groups(points).map(([name, mine], index) => ({
      type: "scatter", mode: "markers", name: text(name),
      x: mine.map((p) => p.x), y: mine.map((p) => p.y), text: mine.map((p) => text(p.sample_id)),
      marker: { size: mine.length > 300 ? 4 : 7, opacity: mine.length > 300 ? 0.45 : 0.75, color: palette()[index % 6] },
      hovertemplate: "%{text}<br>%{x:.4g}, %{y:.4g}<extra>" + text(name) + "</extra>",
    }));
  }

  function time() {
    const laps = report.time.filter((lap) => lap.device_s > 0).reverse();
    const seconds = laps.map((lap) => lap.device_s);
    draw("plot-time", [{
      type: "bar", orientation: "h", y: laps.map((lap) => lap.name), x: seconds,
      marker: { color: laps.map((lap) => color("accent")), opacity: laps.map((lap) => (lap.beside ? 0.35 : 0.95)) },
      text: laps.map((lap) => (lap.beside ? "beside" : (lap.share * 100).toFixed(1) + " %")),
      textposition: "outside", cliponaxis: false, textfont: { size: 11.5, color: color("ink") },
      hovertemplate: "%{y}: %{x:,.2f} s<extra></extra>",
    }], layout("device-seconds", "", { xaxis: { range: [0, Math.max(0, ...seconds) * 1.15] }, height: 70 + 30 * laps.length, yaxis: { showgrid: false } }));
  }

  function throughput() {
    const perMinute = report.bucket_s / 60;
    const nodes = [...new Set(report.throughput.map((bucket) => bucket.node))];
    const start = Date.parse(report.throughput.length ? report.throughput[0].start : 0);
    const last = Date.parse(report.throughput.length ? report.throughput[report.throughput.length - 1].start : 0);
    const unit = last - start > 6 * 3.6e6 ? ["hours", 3.6e6] : last - start > 3e5 ? ["minutes", 6e4] : ["seconds", 1e3];
    draw("plot-throughput", nodes.map((node, index) => {
      const mine = report.throughput.filter((bucket) => bucket.node === node);
      return {
        type: "bar", name: text(node), x: mine.map((b) => (Date.parse(b.start) - start) / unit[1] + (report.bucket_s * 500) / unit[1]),
        y: mine.map((b) => b.clips / perMinute), width: (report.bucket_s * 1000 * 0.94) / unit[1],
        marker: { color: palette()[index % 6] },
        hovertemplate: "%{y:.3g} clips per minute<extra>" + text(node) + "</extra>",
      };
    }), layout(unit[0] + " since the first clip", "clips per minute", { barmode: "stack", showlegend: nodes.length > 1, height: 280 }));
  }

  function nfe() {
    const most = Math.max(0, ...report.nfe.map((bar) => bar.clips));
    draw("plot-nfe", [{
      type: "bar", x: report.nfe.map((bar) => bar.nfe), y: report.nfe.map((bar) => bar.clips),
      marker: { color: color("accent") }, width: report.nfe.length < 4 ? 0.6 : undefined,
      hovertemplate: "%{y} clips with %{x} evaluations<extra></extra>",
    }], layout("network evaluations (steps)", "clips", report.nfe.length < 4 && report.nfe.length
      ? { yaxis: whole(most), xaxis: { dtick: 1, range: [report.nfe[0].nfe - 3, report.nfe[report.nfe.length - 1].nfe + 3] } } : { yaxis: whole(most) }));
  }

  function decisions() {
    const lines = report.decisions;
    const wide = Math.max(0, ...lines.map((line) => line.steps));
    const names = lines.map((line) => text(line.policy) + " " + line.nfe + "/" + line.steps);
    draw("plot-decisions", lines.length ? [{
      type: "heatmap", z: lines.map((line) => line.computed.concat(Array(wide - line.steps).fill(null))),
      x: Array.from({ length: wide }, (_, step) => step + 1), y: names,
      colorscale: [[0, color("low")], [1, color("accent")]], zmin: 0, zmax: 1, xgap: 1, ygap: 2,
      colorbar: { thickness: 9, len: 0.9, outlinewidth: 0, tickformat: ".0%", tickfont: { size: 11, color: color("soft") } },
      hovertemplate: "%{y}, step %{x}: computed in %{z:.0%} of clips<extra></extra>",
    }] : [], layout("sampler step", "", { height: Math.min(560, 110 + 24 * lines.length), yaxis: { showgrid: false, autorange: "reversed" }, xaxis: { showgrid: false } }));
  }

  function errors() {
    // A plan predicts the same for all its clips, of another output than the one measured.
    const points = report.errors.filter((p) => p.group !== "planned");
    const limit = Math.max(0, ...points.map((p) => Math.max(p.x, p.y))) * 1.05;
    const data = scatter(points);
    const many = data.length > 1;
    if (points.length) {
      data.push({ type: "scatter", mode: "lines", name: "equal", x: [0, limit], y: [0, limit], line: { dash: "dot", width: 1, color: color("soft") }, hoverinfo: "skip" });
    }
    draw("plot-errors", data, layout("predicted change (RMS of the output)", "actual change (RMS of the output)", { showlegend: many }));
    const quality = scatter(report.quality_by_nfe);
    draw("plot-quality", quality, layout("network evaluations (steps)", "PSNR to control (dB)", { showlegend: quality.length > 1 }));
  }

  function scores() {
    const found = report.good_clips ? report.good_clips.scores : [];
    found.forEach((score, index) => {
      if (!score.clips) return;
      const middle = score.counts.map((_, bar) => (score.edges[bar] + score.edges[bar + 1]) / 2);
      draw("plot-score-" + index, [{
        type: "bar", x: middle, y: score.counts, marker: { color: color("accent") },
        hovertemplate: "%{y} clips near %{x:.3g}<extra></extra>",
      }], layout(text(score.name), "clips", { height: 200, bargap: 0.04, yaxis: whole(Math.max(...score.counts)) }));
    });
  }

  function all() { time(); throughput(); nfe(); decisions(); errors(); scores(); }
  all();
  dark.addEventListener("change", all);
  narrow.addEventListener("change", all);

  for (const card of document.querySelectorAll(".card")) {
    const clips = [...card.querySelectorAll("video")].filter((clip) => videos[clip.dataset.clip]);
    const button = card.querySelector(".play");
    if (!clips.length) { button.remove(); continue; }
    const toggle = () => {
      const playing = button.textContent === "Pause";
      for (const clip of clips) {
        if (!clip.src) clip.src = videos[clip.dataset.clip];
        if (playing) clip.pause();
        else clip.play().catch((error) => { if (error.name !== "AbortError") button.textContent = "Cannot play: " + error.name; });
      }
      button.textContent = playing ? "Play" : "Pause";
    };
    button.addEventListener("click", toggle);
    for (const clip of clips) clip.addEventListener("click", toggle);
  }
})();
