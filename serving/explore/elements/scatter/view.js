// What part of the plane is visible: positions are within [-1, 1], pixels are those of CSS.

const FARTHEST = 0.5;
const NEAREST = 2000;
const MARGIN = 0.94;

export class View {
  constructor() {
    this.resize(1, 1);
    this.reset();
  }

  resize(width, height) {
    this.width = width;
    this.height = height;
  }

  reset() {
    this.zoom = 1;
    this.x = 0; // Position at the centre.
    this.y = 0;
  }

  get scale() {
    return (Math.min(this.width, this.height) / 2) * MARGIN * this.zoom;
  }

  toPixel(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  toPosition(px, py) {
    return [this.x + (px - this.width / 2) / this.scale, this.y - (py - this.height / 2) / this.scale];
  }

  pan(dx, dy) {
    this.x = clamp(this.x - dx / this.scale, -1, 1);
    this.y = clamp(this.y + dy / this.scale, -1, 1);
  }

  // Keeps the position under the pixel where it is.
  zoomAt(px, py, factor) {
    const [x, y] = this.toPosition(px, py);
    this.zoom = clamp(this.zoom * factor, FARTHEST, NEAREST);
    const [nowX, nowY] = this.toPosition(px, py);
    this.x += x - nowX;
    this.y += y - nowY;
  }
}

function clamp(value, low, high) {
  return Math.min(high, Math.max(low, value));
}
