// A map of points as an element of a page; see scatter.py.

import { PointMap } from "partedvae-scatter";

const HOVER_MILLISECONDS = 60;

export default {
  template: `
    <div class="pv-map">
      <canvas ref="canvas" class="pv-map__canvas" tabindex="0" role="application" :aria-label="label"
        :class="{'pv-map__canvas--lasso': lasso}"></canvas>
      <div v-if="hovered" class="pv-map__hint" :style="hovered.style" aria-hidden="true">
        <img v-if="hovered.image" :src="hovered.image" alt="" class="pv-pixels">
        <div><div v-for="line in hovered.lines">{{ line }}</div></div>
      </div>
      <div v-if="failed" class="pv-map__failed" role="alert">{{ failed }}</div>
    </div>`,
  props: {
    name: String,
    group: String,
    label: String,
    positions: String,
    codes: String,
    colours: Array,
    scale: Boolean,
    hidden: Array,
    lasso: Boolean,
    selected: Array,
    version: String,
    most: Number,
  },
  data: () => ({ hovered: null, failed: "" }),
  mounted() {
    this.map = new PointMap(this.$refs.canvas, this.group, this.name, {
      hovered: (point, x, y) => this.onHovered(point, x, y),
      selected: (points) => this.onSelected(points),
    });
    this.$refs.canvas.pointMap = this.map; // For tests and the browser's console.
    this.point = -1;
    this.known = new Map();
    this.requested = {};
    this.themes = new MutationObserver(() => this.map.draw());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    this.map.lasso = this.lasso;
    this.map.setHidden(this.hidden);
    if (this.selected.length > 0) this.map.select(this.selected);
    this.load("positions");
    this.load("codes");
  },
  unmounted() {
    clearTimeout(this.timer);
    this.themes.disconnect();
    this.map.destroy();
  },
  watch: {
    positions: { handler() { this.load("positions"); }, flush: "post" },
    codes: { handler() { this.load("codes"); }, flush: "post" },
    hidden: { handler() { this.map.setHidden(this.hidden); }, flush: "post" },
    lasso: { handler() { this.map.lasso = this.lasso; }, flush: "post" },
  },
  methods: {
    // Fetches positions, or codes with the colours that belong to them; of several requests, the last one counts.
    async load(what) {
      const address = this[what];
      if (!address) return;
      const [colours, scale] = [this.colours, this.scale];
      this.requested[what] = address;
      let content;
      try {
        const response = await fetch(address);
        if (!response.ok) throw new Error(await response.text());
        content = await response.arrayBuffer();
      } catch (error) {
        if (this.requested[what] === address) this.failed = `The map could not be loaded: ${error.message}`;
        return;
      }
      if (this.requested[what] !== address) return;
      this.failed = "";
      if (what === "positions") {
        this.map.setPositions(new Float32Array(content));
      } else {
        this.map.setColours(colours, scale);
        this.map.setCodes(new Uint8Array(content));
      }
      this.$refs.canvas.dataset[what] = address;
    },
    onHovered(point, x, y) {
      if (point !== this.point) {
        this.point = point;
        this.hovered = null;
        clearTimeout(this.timer);
        if (point >= 0) this.timer = setTimeout(() => this.describe(point, x, y), HOVER_MILLISECONDS);
      }
    },
    async describe(point, x, y) {
      const canvas = this.$refs.canvas;
      if (!this.known.has(point)) {
        const response = await fetch(`/map/point?point=${point}&v=${this.version}`).catch(() => null);
        if (response === null || !response.ok) return;
        this.known.set(point, await response.json());
      }
      if (point !== this.point) return;
      const [right, low] = [x > canvas.clientWidth / 2, y > canvas.clientHeight / 2];
      const style = {
        [right ? "right" : "left"]: `${(right ? canvas.clientWidth - x : x) + 14}px`,
        [low ? "bottom" : "top"]: `${(low ? canvas.clientHeight - y : y) + 14}px`,
      };
      const { lines, picture } = this.known.get(point);
      const image = picture === "missing" ? "" : `/map/image?point=${point}&v=${this.version}`;
      const drawn = picture === "reconstruction" ? ["drawn by the model"] : [];
      this.hovered = { lines: [...lines, ...drawn], image, style };
    },
    // Tells the page how many points are selected, how many of each colour, and some of the points, chosen evenly.
    onSelected(points) {
      const counts = {};
      for (const point of points) counts[this.map.codes[point]] = (counts[this.map.codes[point]] ?? 0) + 1;
      const step = Math.max(1, points.length / this.most);
      const shown = [];
      for (let i = 0; i < points.length && shown.length < this.most; i += step) shown.push(points[Math.floor(i)]);
      this.$emit("selection", { points: shown, count: points.length, counts });
    },
    reset() {
      this.map.keyed("reset");
    },
    zoom(factor) {
      this.map.zoomed(this.map.view.width / 2, this.map.view.height / 2, factor);
    },
    select(points) {
      this.map.select(points);
    },
  },
};
