// One slice and its layers onto a canvas, as high and wide as it is in mm.

const SIDE = 900; // pixels of the canvas's longer side

// The outline of a class as one path along the pixels' edges, so that it is equally thin at every magnification.
function outline(labels, value, rows, columns) {
  const path = new Path2D();
  const at = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && labels[r * columns + c] === value;
  for (let r = 0; r <= rows; r++) {
    for (let c = 0; c <= columns; c++) {
      if (at(r, c) !== at(r - 1, c)) { path.moveTo(c, r); path.lineTo(c + 1, r); }
      if (at(r, c) !== at(r, c - 1)) { path.moveTo(c, r); path.lineTo(c, r + 1); }
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

// shown: {image, layers: [{labels, colour}], fill, part: [row, end, column, end], shape, spacing, classes, byClass}
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
      context.stroke(line);
    }
  }
}
