// Draws discs into an array of pixels.

const FAINT = 0.16; // Opacity of points beside a selection.
const OPAQUE = 0.8;
const NO_COLOUR = [150, 156, 170];

// Converts colours of CSS to [red, green, blue].
export function parseColours(colours) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  return colours.map((colour) => {
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
  });
}

// The colours of the codes 0 to 255: those of classes, or of a scale between a few colours; 255 is a missing value.
export function colourTable(colours, isScale) {
  const parsed = parseColours(colours);
  const table = new Uint8Array(256 * 3);
  for (let code = 0; code < 256; code++) {
    let colour = NO_COLOUR;
    if (code < 255 && isScale) {
      const place = (code / 254) * (parsed.length - 1);
      const first = Math.min(Math.floor(place), parsed.length - 2);
      colour = parsed[first].map((part, i) => part + (parsed[first + 1][i] - part) * (place - first));
    } else if (code < parsed.length) {
      colour = parsed[code];
    }
    table.set(colour, code * 3);
  }
  return table;
}

// A disc as the opacity of each of its pixels, with a soft edge.
function disc(radius, opacity) {
  const side = 2 * Math.ceil(radius) + 1;
  const centre = (side - 1) / 2;
  const weights = new Uint8Array(side * side);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const inside = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x - centre, y - centre)));
      weights[y * side + x] = Math.round(inside * opacity * 256 * 0.996);
    }
  }
  return { side, weights };
}

// An order in which neighbouring rows are drawn far from one another: in a file sorted by class, the last class would
// otherwise hide the others.
export function scatteredOrder(count) {
  let step = Math.max(1, Math.floor(count * 0.618034));
  while (gcd(step, count) !== 1) step++;
  const order = new Uint32Array(count);
  for (let i = 0, at = 0; i < count; i++, at = (at + step) % count) order[i] = at;
  return order;
}

function gcd(a, b) {
  while (b) [a, b] = [b, a % b];
  return a;
}

export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  resize(width, height, ratio) {
    this.ratio = ratio;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    this.image = this.context.createImageData(this.canvas.width, this.canvas.height);
  }

  // Radius of a point in pixels of the screen: smaller where there are many, larger when zoomed in.
  radius(count, zoom) {
    const alone = count > 30000 ? 1.1 : count > 8000 ? 1.6 : count > 1500 ? 2.4 : 3.4;
    return Math.min(6, alone * Math.pow(Math.max(1, zoom), 0.3)) * this.ratio;
  }

  // points: positions, order, codes; hidden: a byte per code; selected: a byte per point, or null; most: points to
  // draw, the first ones of the order.
  paint(points, view, table, hidden, selected, background, most) {
    this.most = most;
    const pixels = this.image.data;
    const fill = (255 << 24) | (background[2] << 16) | (background[1] << 8) | background[0];
    new Uint32Array(pixels.buffer).fill(fill);
    const radius = this.radius(points.placed, view.zoom);
    if (selected === null) {
      this.discs(points, view, table, hidden, null, 0, disc(radius, OPAQUE));
    } else {
      this.discs(points, view, table, hidden, selected, 0, disc(radius, FAINT));
      this.discs(points, view, table, hidden, selected, 1, disc(Math.max(radius * 1.35, 2 * this.ratio), 1));
    }
  }

  // Shows what was painted last, without what was drawn on it.
  show() {
    this.context.putImageData(this.image, 0, 0);
  }

  discs(points, view, table, hidden, selected, wanted, { side, weights }) {
    const { positions, order, codes } = points;
    const pixels = this.image.data;
    const { width, height } = this.canvas;
    const scale = view.scale * this.ratio;
    const half = (side - 1) / 2;
    const left = width / 2 - view.x * scale - half;
    const top = height / 2 + view.y * scale - half;
    const count = Math.min(order.length, this.most);
    for (let i = 0; i < count; i++) {
      const point = order[i];
      if (selected !== null && selected[point] !== wanted) continue;
      const code = codes[point];
      if (hidden[code]) continue;
      const x = Math.round(left + positions[2 * point] * scale);
      const y = Math.round(top - positions[2 * point + 1] * scale);
      // Also false for points without a position, which is NaN.
      if (!(x >= 0 && y >= 0 && x + side <= width && y + side <= height)) continue;
      const red = table[3 * code];
      const green = table[3 * code + 1];
      const blue = table[3 * code + 2];
      for (let row = 0, weight = 0; row < side; row++) {
        let at = 4 * ((y + row) * width + x);
        for (let column = 0; column < side; column++, weight++, at += 4) {
          const opacity = weights[weight];
          if (opacity === 0) continue;
          pixels[at] += ((red - pixels[at]) * opacity) >> 8;
          pixels[at + 1] += ((green - pixels[at + 1]) * opacity) >> 8;
          pixels[at + 2] += ((blue - pixels[at + 2]) * opacity) >> 8;
        }
      }
    }
  }

  ring(px, py, radius, colour) {
    const { context, ratio } = this;
    context.beginPath();
    context.arc(px * ratio, py * ratio, radius * ratio, 0, 2 * Math.PI);
    context.lineWidth = 2 * ratio;
    context.strokeStyle = colour;
    context.stroke();
  }

  polygon(path, colour) {
    if (path.length < 2) return;
    const { context, ratio } = this;
    context.beginPath();
    for (const [x, y] of path) context.lineTo(x * ratio, y * ratio);
    context.closePath();
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = colour;
    context.stroke();
    context.globalAlpha = 0.12;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
  }

  cross(view, colour) {
    const { context, ratio } = this;
    const [x, y] = [(view.width / 2) * ratio, (view.height / 2) * ratio];
    const arm = 9 * ratio;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    context.moveTo(x, y - arm);
    context.lineTo(x, y + arm);
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = colour;
    context.stroke();
  }
}
