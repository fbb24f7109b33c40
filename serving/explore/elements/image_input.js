// A drawing pad that also takes image files; where several are wanted, only the latter. One is sent at a time; while one
// is on its way, only the newest waits, or all where several are wanted.
const LONG_SIDE = 400;
const LIVE_MS = 120; // Time between two pictures of a drawing that goes on.

export default {
  template: `
    <div class="pv-pad" :class="{ 'pv-pad--over': over }"
         @dragover.prevent="over = true" @dragleave="over = false" @drop.prevent="drop">
      <canvas v-if="!several" ref="canvas" class="pv-pad__canvas" :width="canvasWidth" :height="canvasHeight"
              role="img" aria-label="Drawing pad; drop, paste or choose an image instead"
              @pointerdown="start" @pointermove="move" @pointerup="stop" @pointercancel="stop"></canvas>
      <div v-if="!several && empty" class="pv-pad__hint">Draw here, or drop or paste an image</div>
      <div class="pv-pad__tools">
        <q-btn v-if="several" flat dense no-caps icon="upload_file" label="Add images" @click="$refs.file.click()"></q-btn>
        <span v-if="several" class="pv-pad__or">or drop or paste them here</span>
        <q-btn v-if="!several" flat dense round icon="upload_file" aria-label="Choose an image file" @click="$refs.file.click()">
          <q-tooltip>Choose an image file</q-tooltip></q-btn>
        <input ref="file" type="file" :multiple="several" accept="image/*,.heic" class="hidden" aria-label="Image file" tabindex="-1"
               @change="choose">
        <q-btn v-if="!several" flat dense round icon="layers_clear" aria-label="Clear the drawing" @click="clear">
          <q-tooltip>Clear</q-tooltip></q-btn>
        <input v-if="!several && coloured" type="color" v-model="ink" class="pv-pad__ink" aria-label="Colour of strokes">
        <label v-if="!several" class="pv-pad__pen"><q-icon name="line_weight"></q-icon>
          <input type="range" min="3" max="16" step="0.5" v-model.number="pen" aria-label="Width of strokes"></label>
      </div>
    </div>`,
  props: {
    url: String, width: Number, height: Number, background: Array, coloured: Boolean, several: Boolean,
  },
  data() {
    const light = this.background[0] * 0.299 + this.background[1] * 0.587 + this.background[2] * 0.114 > 127;
    return { over: false, empty: true, pen: 8, ink: light ? "#000000" : "#ffffff" };
  },
  computed: {
    canvasWidth() { return Math.round((LONG_SIDE * this.width) / Math.max(this.width, this.height)); },
    canvasHeight() { return Math.round((LONG_SIDE * this.height) / Math.max(this.width, this.height)); },
  },
  mounted() {
    this.touched = false;
    this.waiting = [];
    this.sending = false;
    if (!this.several) this.erase();
    this.onPaste = (event) => this.takeAll(event.clipboardData?.files ?? []);
    window.addEventListener("paste", this.onPaste);
  },
  unmounted() {
    window.removeEventListener("paste", this.onPaste);
    clearTimeout(this.timer);
  },
  methods: {
    context() { return this.$refs.canvas.getContext("2d"); },
    erase() {
      const context = this.context();
      context.fillStyle = `rgb(${this.background.join(",")})`;
      context.fillRect(0, 0, this.canvasWidth, this.canvasHeight);
    },
    clear() {
      this.touched = true;
      this.erase();
      this.empty = true;
    },
    position(event) {
      const box = this.$refs.canvas.getBoundingClientRect();
      return [((event.clientX - box.left) / box.width) * this.canvasWidth,
              ((event.clientY - box.top) / box.height) * this.canvasHeight];
    },
    start(event) {
      if (event.button !== 0) return;
      event.preventDefault();
      this.touched = true;
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.empty = false;
      this.last = this.position(event);
      this.line(this.last, this.last);
    },
    move(event) {
      if (!this.last) return;
      for (const part of event.getCoalescedEvents?.() ?? [event]) this.stroke(part);
      this.timer ??= setTimeout(() => this.sendDrawing(), LIVE_MS);
    },
    stroke(event) {
      const next = this.position(event);
      this.line(this.last, next);
      this.last = next;
    },
    stop() {
      if (!this.last) return;
      this.last = null;
      this.sendDrawing();
    },
    line(from, to) {
      const context = this.context();
      context.strokeStyle = this.ink;
      context.lineWidth = (this.pen / 100) * LONG_SIDE;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    },
    sendDrawing() {
      clearTimeout(this.timer);
      this.timer = undefined;
      this.$refs.canvas.toBlob((blob) => this.send(blob, "drawing"), "image/png");
    },
    drop(event) {
      this.over = false;
      this.takeAll(event.dataTransfer.files);
    },
    choose(event) {
      this.takeAll(event.target.files);
      event.target.value = "";
    },
    takeAll(files) {
      for (const file of this.several ? files : [...files].slice(0, 1)) this.take(file);
    },
    async take(file) {
      this.touched = true;
      this.send(file, file.name);
      if (this.several) return;
      const source = URL.createObjectURL(file);
      await this.paint(source);
      URL.revokeObjectURL(source);
    },
    // `onlyFirst`: not where the visitor has drawn, or given an image, already.
    async paint(source, onlyFirst = false) {
      const image = new Image();
      image.src = source;
      try {
        await image.decode();
      } catch {
        return; // A format that the server reads and this browser does not show.
      }
      if (onlyFirst && this.touched) return;
      const scale = Math.min(this.canvasWidth / image.naturalWidth, this.canvasHeight / image.naturalHeight);
      const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
      this.erase();
      const context = this.context();
      context.imageSmoothingEnabled = scale < 1;
      context.drawImage(image, (this.canvasWidth - width) / 2, (this.canvasHeight - height) / 2, width, height);
      this.empty = false;
    },
    async send(blob, name) {
      this.waiting = [...(this.several ? this.waiting : []), { blob, name }];
      if (this.sending) return;
      this.sending = true;
      while (this.waiting.length) {
        const next = this.waiting.shift();
        try {
          const address = `${this.url}?name=${encodeURIComponent(next.name)}`;
          const response = await fetch(address, { method: "POST", body: next.blob });
          if (!response.ok) this.$emit("rejected", await response.text());
        } catch {
          this.$emit("rejected", "the image could not be sent; check the connection, and try again");
        }
      }
      this.sending = false;
    },
  },
};
