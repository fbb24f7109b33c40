export default {
  template: `
    <div class="pv-latents" role="list" :aria-label="label">
      <div v-for="row in rows" :key="row.label" class="pv-latents__row" role="listitem" :title="text(row)"
           :aria-label="text(row)">
        <span class="pv-latents__name" aria-hidden="true">{{ row.label }}</span>
        <span class="pv-latents__track" aria-hidden="true">
          <span class="pv-latents__prior" :style="range(row.mean - row.spread, row.mean + row.spread)"></span>
          <span class="pv-latents__mean" :style="{ left: at(row.mean) + '%' }"></span>
          <span class="pv-latents__posterior" :style="range(row.value - row.deviation, row.value + row.deviation)"></span>
          <span class="pv-latents__value" :style="{ left: at(row.value) + '%' }"></span>
        </span>
        <span class="pv-latents__text" aria-hidden="true">{{ row.value.toFixed(2) }}</span>
      </div>
    </div>`,
  props: { label: String, low: Number, high: Number, rows: Array },
  methods: {
    at(value) {
      return Math.min(100, Math.max(0, ((value - this.low) / (this.high - this.low)) * 100));
    },
    range(from, to) {
      return { left: this.at(from) + "%", width: this.at(to) - this.at(from) + "%" };
    },
    text(row) {
      return `${row.label}: ${row.value.toFixed(2)} ± ${row.deviation.toFixed(2)}, ` +
        `prior ${row.mean.toFixed(2)} ± ${row.spread.toFixed(2)}`;
    },
  },
};
