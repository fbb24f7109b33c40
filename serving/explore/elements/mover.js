// Sliders, and the image that they give. The URL of the page has their state.
const SETTLE_MS = 200; // After the last movement, until strips and the URL of the page follow.
const RETRY_MS = 2000; // After a picture that could not be drawn, such as while the server is away.
const STEPS = 9; // Columns of a strip, from -2.5 to +2.5 standard deviations; as the server draws them.
const STRIP_REACH = 2.5;

export default {
  template: `
    <div class="pv-mover">
      <section class="pv-card pv-mover__picture" aria-label="Image">
        <img ref="image" class="pv-pixels pv-mover__image" :width="width" :height="height" alt="Image of these latents"
             @load="loaded" @error="failed">
        <div class="pv-mover__buttons">
          <q-btn unelevated no-caps color="primary" icon="casino" label="Random" @click="random"></q-btn>
          <q-btn outline no-caps color="primary" icon="restart_alt" label="Reset" @click="reset"></q-btn>
          <q-btn outline no-caps color="primary" icon="download" label="PNG" :href="download" aria-label="Download PNG">
          </q-btn>
        </div>
        <div v-if="problem" role="alert" class="pv-note pv-note--warn">{{ problem }}</div>
      </section>
      <section class="pv-card pv-mover__sliders" aria-label="Latents">
        <template v-for="factor in factors" :key="factor.name">
          <div class="pv-mover__group">
            <div class="pv-card__head"><span class="pv-card__title" role="heading" aria-level="2">{{ factor.name }}</span>
              <span class="pv-card__hint">a class sets u to the middle of its mode</span></div>
            <div class="pv-classes" role="radiogroup" :aria-label="'Class of ' + factor.name">
              <button v-for="(name, c) in factor.classes" :key="name" type="button" role="radio" class="pv-class"
                      :aria-checked="chosen[factor.name] === c ? 'true' : 'false'" @click="choose(factor, c)">
                {{ name }}</button>
            </div>
            <div class="pv-mover__grid">
              <label v-for="(_, d) in factor.low" :key="d" class="pv-slider">
                <span class="pv-slider__name">u{{ d }}</span>
                <input type="range" step="0.01" :min="factor.low[d]" :max="factor.high[d]"
                       :value="u[factor.first + d]" :aria-label="factor.name + ' u' + d"
                       @input="set(u, factor.first + d, $event)" @dblclick="recentre(factor, d)">
                <span class="pv-slider__value">{{ u[factor.first + d].toFixed(2) }}</span>
              </label>
            </div>
          </div>
        </template>
        <div class="pv-mover__group">
          <div class="pv-card__head"><span class="pv-card__title" role="heading" aria-level="2">z</span>
            <span class="pv-card__hint">style: what the class does not say</span></div>
          <div class="pv-mover__grid">
            <label v-for="(value, d) in z" :key="d" class="pv-slider">
              <span class="pv-slider__name">z{{ d }}</span>
              <input type="range" step="0.01" :min="-reach" :max="reach" :value="value" :aria-label="'z' + d"
                     @input="set(z, d, $event)" @dblclick="z[d] = 0; moved()">
              <span class="pv-slider__value">{{ value.toFixed(2) }}</span>
            </label>
          </div>
        </div>
      </section>
      <section class="pv-card pv-mover__strips" aria-label="Strips">
        <div class="pv-card__head"><span class="pv-card__title" role="heading" aria-level="2">Every dimension at once</span>
          <span class="pv-card__hint">one changes along each row, by up to 2.5 standard deviations; click an image to go
            there</span></div>
        <div class="pv-strips">
          <figure v-for="strip in strips" :key="strip.title" class="pv-strip">
            <figcaption>{{ strip.title }}</figcaption>
            <div class="pv-strip__body">
              <div class="pv-strip__labels" aria-hidden="true"><span v-for="row in strip.rows" :key="row">{{ row }}</span>
              </div>
              <img class="pv-pixels" :src="strip.source" :alt="strip.title" :width="width * strip.columns"
                   :height="height * strip.rows.length" @click="jump(strip, $event)">
            </div>
          </figure>
        </div>
      </section>
    </div>`,
  props: {
    model: String, fingerprint: String, width: Number, height: Number, factors: Array, zDim: Number, reach: Number,
    start: Object,
  },
  data() {
    const chosen = Object.fromEntries(
      this.factors.map((factor) => [factor.name, Math.max(0, factor.classes.indexOf(this.start.classes[factor.name]))]),
    );
    return {
      chosen,
      u: this.start.u ?? this.factors.flatMap((factor) => [...factor.means[chosen[factor.name]]]),
      z: this.start.z ?? Array(this.zDim).fill(0),
      strips: [],
      download: "",
      problem: "",
    };
  },
  mounted() {
    this.busy = false;
    this.shown = "";
    this.settle();
    this.request();
  },
  unmounted() {
    clearTimeout(this.timer);
    clearTimeout(this.retry);
  },
  methods: {
    numbers(values) { return values.map((value) => +value.toFixed(3)).join(","); },
    classesOf() {
      return this.factors.map((factor) => [factor.name, factor.classes[this.chosen[factor.name]]]);
    },
    address(path, further = {}) {
      const parameters = new URLSearchParams({ u: this.numbers(this.u), z: this.numbers(this.z), m: this.fingerprint });
      for (const [name, value] of Object.entries(further)) parameters.append(name, value);
      return `${path}?${parameters}`;
    },
    set(values, i, event) {
      values[i] = +event.target.value;
      this.moved();
    },
    moved() {
      this.request();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.settle(), SETTLE_MS);
    },
    // One picture at a time is asked for, and after it the newest.
    request() {
      if (this.busy) return;
      clearTimeout(this.retry);
      const wanted = this.address("/decode.png");
      if (wanted === this.shown) return;
      this.busy = true;
      this.shown = wanted;
      this.$refs.image.src = wanted;
    },
    loaded() {
      this.busy = false;
      this.problem = "";
      this.request();
    },
    async failed() {
      const response = await fetch(this.shown).catch(() => null);
      this.problem = response === null ? "the page's server does not answer" : response.ok ? "" : await response.text();
      this.busy = false;
      this.shown = "";
      if (!this.problem) this.request();
      else if (response?.status !== 400) this.retry = setTimeout(() => this.request(), RETRY_MS);
    },
    settle() {
      const query = new URLSearchParams({ u: this.numbers(this.u), z: this.numbers(this.z) });
      for (const [factor, name] of this.classesOf()) query.append(`class.${factor}`, name);
      history.replaceState(history.state, "", `${location.pathname}?${query}`);
      const scale = Math.max(1, Math.round(512 / Math.max(this.width, this.height)));
      this.download = this.address("/decode.png", { scale: Math.min(scale, 32), download: `${this.model}-decoded` });
      this.strips = this.stripsOf();
    },
    stripsOf() {
      const strips = [];
      const named = this.classesOf().map(([factor, name]) => `${factor}=${name}`);
      const source = (further) => {
        const query = new URLSearchParams(this.address("", further).slice(1));
        for (const item of named) query.append("class", item);
        return `/strips.png?${query}`;
      };
      for (const factor of this.factors) {
        const title = this.factors.length > 1 ? ` of ${factor.name}` : "";
        strips.push({
          title: `Classes${title}`, kind: "classes", factor, columns: factor.classes.length, rows: [""],
          source: source({ along: "classes", factor: factor.name }),
        });
      }
      for (const factor of this.factors) {
        strips.push({
          title: `u of ${factor.name}, around ${factor.classes[this.chosen[factor.name]]}`, kind: "u", factor,
          columns: STEPS, rows: factor.low.map((_, d) => `u${d}`), source: source({ along: "u", factor: factor.name }),
        });
      }
      const rows = this.z.map((_, d) => `z${d}`);
      if (rows.length) strips.push({ title: "z", kind: "z", columns: STEPS, rows, source: source({ along: "z" }) });
      return strips;
    },
    jump(strip, event) {
      const box = event.target.getBoundingClientRect();
      const column = Math.min(strip.columns - 1, Math.floor(((event.clientX - box.left) / box.width) * strip.columns));
      const row = Math.min(strip.rows.length - 1, Math.floor(((event.clientY - box.top) / box.height) * strip.rows.length));
      if (strip.kind === "classes") return this.move(strip.factor, column);
      const offset = STRIP_REACH * ((2 * column) / (STEPS - 1) - 1);
      if (strip.kind === "z") {
        this.z[row] = offset;
      } else {
        const c = this.chosen[strip.factor.name];
        this.u[strip.factor.first + row] = strip.factor.means[c][row] + strip.factor.deviations[c][row] * offset;
      }
      this.moved();
    },
    choose(factor, c) {
      this.chosen[factor.name] = c;
      factor.means[c].forEach((mean, d) => { this.u[factor.first + d] = mean; });
      this.moved();
    },
    // As the strip of classes: u keeps its distance from the mode's mean, in the mode's standard deviations.
    move(factor, c) {
      const own = this.chosen[factor.name];
      factor.means[c].forEach((mean, d) => {
        const i = factor.first + d;
        this.u[i] = mean + (factor.deviations[c][d] * (this.u[i] - factor.means[own][d])) / factor.deviations[own][d];
      });
      this.chosen[factor.name] = c;
      this.moved();
    },
    recentre(factor, d) {
      this.u[factor.first + d] = factor.means[this.chosen[factor.name]][d];
      this.moved();
    },
    reset() {
      this.z.fill(0);
      for (const factor of this.factors) this.choose(factor, this.chosen[factor.name]);
      this.moved();
    },
    random() {
      this.z = this.z.map(() => this.normal());
      for (const factor of this.factors) {
        const c = this.drawn(factor.prior);
        this.chosen[factor.name] = c;
        factor.means[c].forEach((mean, d) => { this.u[factor.first + d] = mean + factor.deviations[c][d] * this.normal(); });
      }
      this.moved();
    },
    // An index, by its probability.
    drawn(probabilities) {
      let left = Math.random();
      return Math.max(0, probabilities.findIndex((probability) => (left -= probability) < 0));
    },
    normal() {
      return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    },
  },
};
