// One slice and its layers onto a canvas, as high and wide as it is in mm.

const SIDE = 900; // pixels of the canvas's longer side

// The outline of a class as one path along the pixels' edges, so that it is equally thin at every magnification. It
// goes on around corners, with the class on its right: dashes would begin anew at each one.
function outline(labels, value, rows, columns) {
  const at = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && labels[r * columns + c] === value;
  const wide = columns + 1;
  const next = new Map(); // from each corner to those that its edges lead to
  const edge = (from, to) => { if (next.has(from)) next.get(from).push(to); else next.set(from, [to]); };
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      if (!at(r, c)) continue;
      const corner = r * wide + c;
      if (!at(r - 1, c)) edge(corner, corner + 1);
      if (!at(r, c + 1)) edge(corner + 1, corner + 1 + wide);
      if (!at(r + 1, c)) edge(corner + 1 + wide, corner + wide);
      if (!at(r, c - 1)) edge(corner + wide, corner);
    }
  }
  const path = new Path2D();
  for (const [start, ends] of next) {
    if (!ends.length) continue;
    path.moveTo(start % wide, Math.floor(start / wide));
    // as many edges come to a corner as leave it: the walk ends where it began
    for (let corner = start; next.get(corner).length;) {
      corner = next.get(corner).pop();
      path.lineTo(corner % wide, Math.floor(corner / wide));
    }
  }
  return path;
}

function filled(labels, value, rows, columns) {
  const path = new Path2D();
  for (let r = 0; r < rows; r++) {
    for (let c = 0, start = -1; c <= columns; c++) {
      const inside = c < columns && labels[r * columns + c] === value;
      if (inside && start < 0) start = c;
      if (!inside && start >= 0) { path.rect(start, r, c - start, 1); start = -1; }
    }
  }
  return path;
}

// shown: {image, layers: [{labels, colour, dash}], fill, part: [row, end, column, end], shape, spacing, classes, byClass}
function draw(canvas, shown) {
  const [top, bottom, left, right] = shown.part;
  const high = (bottom - top) * shown.spacing[0];
  const wide = (right - left) * shown.spacing[1];
  const perMm = SIDE / Math.max(high, wide);
  canvas.width = Math.round(wide * perMm);
  canvas.height = Math.round(high * perMm);
  const context = canvas.getContext("2d");
  const across = canvas.width / (right - left);
  const down = canvas.height / (bottom - top);
  context.imageSmoothingEnabled = false; // a pixel of the file stays a pixel
  if (shown.image) {
    context.drawImage(shown.image, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
  } else {
    context.fillStyle = "#222";
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  const [rows, columns] = shown.shape;
  const placed = (path) => {
    const moved = new Path2D();
    moved.addPath(path, new DOMMatrix([across, 0, 0, down, -left * across, -top * down]));
    return moved;
  };
  for (const layer of shown.layers) {
    for (const one of shown.classes) {
      const colour = shown.byClass ? one.colour : layer.colour;
      if (shown.fill || layer.weak) {
        context.globalAlpha = layer.weak ? 0.5 : 0.3;
        context.fillStyle = colour;
        context.fill(placed(filled(layer.labels, one.value, rows, columns)));
        context.globalAlpha = 1;
      }
      const line = placed(outline(layer.labels, one.value, rows, columns));
      context.lineCap = "square";
      // a dark seam: colours keep apart from any grey below them
      context.strokeStyle = "rgba(0, 0, 0, 0.75)";
      context.lineWidth = 6;
      context.stroke(line);
      context.strokeStyle = colour;
      context.lineWidth = 3;
      if (layer.dash.length) context.lineCap = "butt";
      context.setLineDash(layer.dash);
      context.stroke(line);
      context.setLineDash([]);
    }
  }
}
