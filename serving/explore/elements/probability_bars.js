export default {
  template: `
    <div class="pv-bars" role="list" :aria-label="label">
      <div v-for="(name, i) in names" :key="name" class="pv-bars__row" role="listitem"
           :class="{ 'pv-bars__row--best': i === best }">
        <span class="pv-bars__name" :title="name">{{ name }}</span>
        <span class="pv-bars__track"><span class="pv-bars__fill" :style="{ width: values[i] * 100 + '%' }"></span></span>
        <span class="pv-bars__text">{{ percent(values[i]) }}</span>
      </div>
    </div>`,
  props: { label: String, names: Array, values: Array },
  computed: {
    best() {
      const largest = Math.max(...this.values);
      return largest > 0 ? this.values.indexOf(largest) : -1;
    },
  },
  methods: {
    percent(value) {
      if (value > 0 && value < 0.001) return "<0.1 %";
      return (value * 100).toFixed(value > 0.9995 || value === 0 ? 0 : 1) + " %";
    },
  },
};
