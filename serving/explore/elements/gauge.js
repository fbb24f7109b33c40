export default {
  template: `
    <div class="pv-gauge" role="img" :aria-label="label + ': ' + (value === null ? 'none' : value)">
      <div class="pv-gauge__track">
        <span v-if="limit" class="pv-gauge__familiar" :style="{ width: at(limit) + '%' }"></span>
        <span v-if="usual && usual.length" class="pv-gauge__usual"
              :style="{ left: at(usual[0]) + '%', width: at(usual[2]) - at(usual[0]) + '%' }"></span>
        <span v-if="usual && usual.length" class="pv-gauge__middle" :style="{ left: at(usual[1]) + '%' }"></span>
        <span v-if="value !== null" class="pv-gauge__value" :class="{ 'pv-gauge__value--far': limit && value > limit }"
              :style="{ left: at(value) + '%' }"></span>
      </div>
      <div class="pv-gauge__axis" aria-hidden="true">
        <span v-for="tick in ticks" :key="tick" :style="{ left: at(tick) + '%' }">{{ tick }}</span>
      </div>
    </div>`,
  props: { label: String, value: Number, limit: Number, usual: Array },
  computed: {
    end() {
      // The limit is in the middle: there is as much room for what is unlike as for what is like.
      return this.limit ? this.limit * 2 : Math.max(1, (this.value ?? 1) * 2);
    },
    ticks() {
      const step = this.end / 4;
      const unit = 10 ** Math.floor(Math.log10(step));
      const nice = [1, 2, 5, 10].map((factor) => factor * unit).find((candidate) => candidate >= step);
      return Array.from({ length: Math.floor(this.end / nice) + 1 }, (_, i) => +(i * nice).toPrecision(6));
    },
  },
  methods: {
    at(value) { return Math.min(100, Math.max(0, (value / this.end) * 100)); },
  },
};
