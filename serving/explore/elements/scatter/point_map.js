// One map of points. Maps of the same group show the same selection, and the point under the pointer.

import { Gestures } from "./gestures.js";
import { colourTable, Painter, parseColours, scatteredOrder } from "./painter.js";
import { View } from "./view.js";

const REACH = 14; // Pixels from the pointer to a point; for fingers, twice as many.
const MOST_RATIO = 2; // Pixels of the canvas per pixel of CSS.
const FRAME_MILLISECONDS = 10; // Of drawing, while the map moves.
const FEWEST = 4000; // Points that are drawn even if that takes longer.
const REST_MILLISECONDS = 120; // After the last movement, all points are drawn.

const groups = new Map();

// The maps of a group by their name.
export function linked(group) {
  if (!groups.has(group)) groups.set(group, { maps: new Map(), selected: null, hovered: -1 });
  return groups.get(group);
}

export class PointMap {
  // hovered(point, x, y) is called when another point is under the pointer, -1 for none; selected(points) when this map
  // selects, with the points as an array.
  constructor(canvas, group, name, { hovered, selected }) {
    this.canvas = canvas;
    this.group = linked(group);
    this.group.maps.set(name, this);
    this.name = name;
    this.onHovered = hovered;
    this.onSelected = selected;
    this.view = new View();
    this.painter = new Painter(canvas);
    this.points = null;
    this.codes = null;
    this.colours = null;
    this.hidden = new Uint8Array(256);
    this.path = null;
    this.lasso = false;
    this.frame = 0;
    this.rest = 0;
    this.pointMilliseconds = 0;
    this.stale = true;
    new Gestures(canvas, this);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    for (const event of ["focus", "blur"]) canvas.addEventListener(event, () => this.draw(true));
    this.resize();
  }

  destroy() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.rest);
    this.group.maps.delete(this.name);
    if (this.group.maps.size === 0) {
      this.group.selected = null;
      this.group.hovered = -1;
    }
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    this.view.resize(clientWidth, clientHeight);
    this.painter.resize(clientWidth, clientHeight, Math.min(MOST_RATIO, window.devicePixelRatio || 1));
    this.draw();
  }

  setPositions(positions) {
    const count = positions.length / 2;
    let placed = 0;
    for (let i = 0; i < count; i++) if (!Number.isNaN(positions[2 * i])) placed++;
    this.points = { positions, placed, order: scatteredOrder(count) };
    this.view.reset();
    this.draw();
  }

  setCodes(codes) {
    this.codes = codes;
    this.draw();
  }

  setColours(colours, isScale) {
    this.colours = colourTable(colours, isScale);
    this.draw();
  }

  setHidden(hidden) {
    this.hidden.fill(0);
    for (const code of hidden) this.hidden[code] = 1;
    this.draw();
  }

  // Selects points in all maps of the group; an empty array clears the selection.
  select(points) {
    const count = this.points === null ? 0 : this.points.order.length;
    if (points.length === 0) {
      this.group.selected = null;
    } else {
      const mask = new Uint8Array(Math.max(count, 1 + points.reduce((a, b) => Math.max(a, b), 0)));
      for (const point of points) mask[point] = 1;
      this.group.selected = mask;
    }
    for (const map of this.group.maps.values()) map.draw();
  }

  selection() {
    const mask = this.group.selected;
    const points = [];
    if (mask !== null) for (let point = 0; point < mask.length; point++) if (mask[point]) points.push(point);
    return points;
  }

  visible(point) {
    return !this.hidden[this.codes[point]] && !Number.isNaN(this.points.positions[2 * point]);
  }

  get ready() {
    return this.points !== null && this.codes !== null && this.colours !== null;
  }

  // Pixel of a point within the canvas.
  pixelOf(point) {
    return this.view.toPixel(this.points.positions[2 * point], this.points.positions[2 * point + 1]);
  }

  // The visible point that is nearest to a pixel; -1 if none is in reach.
  nearest(px, py, reach) {
    if (!this.ready) return -1;
    const { positions, order } = this.points;
    const [x, y] = this.view.toPosition(px, py);
    let found = -1;
    let least = (reach / this.view.scale) ** 2;
    for (let point = 0; point < order.length; point++) {
      const distance = (positions[2 * point] - x) ** 2 + (positions[2 * point + 1] - y) ** 2;
      if (distance < least && this.visible(point)) [found, least] = [point, distance];
    }
    return found;
  }

  inside(path) {
    if (!this.ready) return [];
    const corners = path.map(([px, py]) => this.view.toPosition(px, py));
    const xs = corners.map((corner) => corner[0]);
    const ys = corners.map((corner) => corner[1]);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const { positions, order } = this.points;
    const found = [];
    for (let point = 0; point < order.length; point++) {
      const x = positions[2 * point];
      const y = positions[2 * point + 1];
      if (x >= left && x <= right && y >= low && y <= high && this.visible(point) && within(corners, x, y)) {
        found.push(point);
      }
    }
    return found;
  }

  // overlay: only what is above the points has changed.
  draw(overlay = false) {
    if (!overlay) this.stale = true;
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    const style = getComputedStyle(this.canvas);
    const [background, ink] = parseColours([style.backgroundColor, style.color]);
    if (this.stale) this.paintPoints(background);
    this.painter.show();
    const stroke = `rgb(${ink})`;
    if (this.ready && this.group.hovered >= 0 && this.group.hovered < this.points.order.length) {
      const [px, py] = this.pixelOf(this.group.hovered);
      if (!Number.isNaN(px)) this.painter.ring(px, py, 7, stroke);
    }
    if (this.path !== null) this.painter.polygon(this.path, stroke);
    if (this.canvas.matches(":focus-visible")) this.painter.cross(this.view, stroke);
    if (this.ready) this.canvas.dataset.drawn = String(Number(this.canvas.dataset.drawn ?? 0) + 1);
  }

  paintPoints(background) {
    this.stale = false;
    const points = this.ready ? { ...this.points, codes: this.codes } : EMPTY;
    const selected = this.ready ? this.group.selected : null;
    const began = performance.now();
    const most = this.rest === 0 ? Infinity : Math.max(FEWEST, FRAME_MILLISECONDS / this.pointMilliseconds);
    this.painter.paint(points, this.view, this.colours ?? NO_COLOURS, this.hidden, selected, background, most);
    const drawn = Math.min(points.order.length, most);
    if (drawn > 0) this.pointMilliseconds = (performance.now() - began) / drawn;
  }

  hover(point, px, py) {
    if (point !== this.group.hovered) {
      this.group.hovered = point;
      for (const map of this.group.maps.values()) map.draw(true);
    }
    this.onHovered(point, px, py);
  }

  choose(points, adds) {
    const all = adds ? [...new Set([...this.selection(), ...points])] : points;
    this.select(all);
    this.onSelected(all);
  }

  // Calls of Gestures.

  panned(dx, dy) {
    this.view.pan(dx, dy);
    this.move();
  }

  zoomed(px, py, factor) {
    this.view.zoomAt(px, py, factor);
    this.move();
  }

  // On a slow machine a moving map shows a sample of its points, which are in a scattered order, and then all of them.
  move() {
    clearTimeout(this.rest);
    this.rest = setTimeout(() => {
      this.rest = 0;
      this.draw();
    }, REST_MILLISECONDS);
    this.hover(-1, 0, 0);
    this.draw();
  }

  hovered(px, py) {
    this.hover(this.nearest(px, py, REACH), px, py);
  }

  left() {
    this.hover(-1, 0, 0);
  }

  clicked(px, py, touch, adds) {
    const point = this.nearest(px, py, touch ? 2 * REACH : REACH);
    if (point >= 0 || !adds) this.choose(point < 0 ? [] : [point], adds);
  }

  lassoing(path) {
    if (path === null && this.path === null) return;
    this.path = path;
    this.draw(true);
  }

  lassoed(path, adds) {
    this.choose(this.inside(path), adds);
  }

  keyed(action) {
    if (action === "reset") {
      this.view.reset();
      this.draw();
    } else if (action === "clear") {
      this.choose([], false);
    } else {
      const [x, y] = [this.view.width / 2, this.view.height / 2];
      const point = this.nearest(x, y, Math.max(this.view.width, this.view.height));
      if (point >= 0) this.choose([point], false);
    }
  }
}

const EMPTY = { positions: new Float32Array(0), order: new Uint32Array(0), codes: new Uint8Array(0), placed: 0 };
const NO_COLOURS = new Uint8Array(256 * 3);

function within(corners, x, y) {
  let inside = false;
  for (let i = 0, j = corners.length - 1; i < corners.length; j = i++) {
    const [xi, yi] = corners[i];
    const [xj, yj] = corners[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}
