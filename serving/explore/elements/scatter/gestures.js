// Turns pointers, the wheel and keys into calls: panned, zoomed, hovered, left, clicked, lassoing, lassoed, keyed.

const CLICK_PIXELS = 5;
const STEP_PIXELS = 40;

export class Gestures {
  // handler has the methods above, and `lasso`, whether dragging draws one.
  constructor(canvas, handler) {
    this.canvas = canvas;
    this.handler = handler;
    this.pointers = new Map();
    this.path = null;
    this.moved = 0;
    const listen = (name, method) => canvas.addEventListener(name, (event) => this[method](event), { passive: false });
    listen("pointerdown", "down");
    listen("pointermove", "move");
    listen("pointerup", "up");
    listen("pointercancel", "cancel");
    listen("pointerleave", "leave");
    listen("wheel", "wheel");
    listen("keydown", "key");
    listen("dblclick", "double");
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    if (this.pointers.size === 1) {
      this.moved = 0;
      this.pinched = false;
      this.path = this.handler.lasso !== event.shiftKey ? [this.at(event)] : null;
    } else {
      this.pinched = true;
      this.path = null;
      this.handler.lassoing(null);
    }
  }

  move(event) {
    const to = this.at(event);
    const from = this.pointers.get(event.pointerId);
    if (from === undefined) {
      this.handler.hovered(...to);
      return;
    }
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    this.pointers.set(event.pointerId, to);
    if (other !== undefined) {
      const before = Math.hypot(from[0] - other[0], from[1] - other[1]);
      const after = Math.hypot(to[0] - other[0], to[1] - other[1]);
      this.handler.panned((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
      if (before > 0) this.handler.zoomed((to[0] + other[0]) / 2, (to[1] + other[1]) / 2, after / before);
      return;
    }
    if (this.pinched) return;
    this.moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    if (this.path !== null) {
      this.path.push(to);
      this.handler.lassoing(this.path);
    } else if (this.moved > CLICK_PIXELS) {
      this.handler.panned(to[0] - from[0], to[1] - from[1]);
    }
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId) || this.pointers.size > 0) return;
    const path = this.path;
    this.path = null;
    this.handler.lassoing(null);
    if (this.pinched) return;
    const adds = event.ctrlKey || event.metaKey;
    if (this.moved <= CLICK_PIXELS) this.handler.clicked(...this.at(event), event.pointerType === "touch", adds);
    else if (path !== null && path.length > 2) this.handler.lassoed(path, adds);
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.path = null;
    this.handler.lassoing(null);
  }

  leave() {
    if (this.pointers.size === 0) this.handler.left();
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.handler.zoomed(...this.at(event), Math.exp(-event.deltaY * lines * 0.0022));
  }

  double() {
    this.handler.keyed("reset");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const centre = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    const actions = {
      ArrowLeft: () => this.handler.panned(STEP_PIXELS, 0),
      ArrowRight: () => this.handler.panned(-STEP_PIXELS, 0),
      ArrowUp: () => this.handler.panned(0, STEP_PIXELS),
      ArrowDown: () => this.handler.panned(0, -STEP_PIXELS),
      "+": () => this.handler.zoomed(...centre, 1.4),
      "=": () => this.handler.zoomed(...centre, 1.4),
      "-": () => this.handler.zoomed(...centre, 1 / 1.4),
      0: () => this.handler.keyed("reset"),
      Escape: () => this.handler.keyed("clear"),
      Enter: () => this.handler.keyed("nearest"),
    };
    const action = actions[event.key];
    if (action === undefined) return;
    event.preventDefault();
    action();
  }
}
