// Keys and buttons of the page Label. Each event has the image and the factor that were on the screen, so that a key
// that was pressed before the next one had come does not label it.
(() => {
  const BROKEN = -1, LOADING = -2; // Instead of the number of an image; as in label.py.
  const shown = () => {
    const image = document.querySelector(".pv-label__image");
    if (!image?.complete) return LOADING;
    return image.naturalWidth ? Number(image.dataset.number) : BROKEN;
  };
  // Small images show their pixels, and photos are smooth.
  const sized = (image) => image.classList.toggle("pv-label__image--small", image.naturalWidth <= 128);
  document.addEventListener("load", (event) => event.target.matches?.(".pv-label__image") && sized(event.target), true);
  document.querySelectorAll(".pv-label__image").forEach(sized);
  const send = (button) => {
    if (!button.disabled) {
      const { action, factor = "", value = "" } = button.dataset;
      emitEvent("pv-label", { action, factor, value, shown: shown() });
    }
  };
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.activeElement.blur();
    if (event.target.closest("input, textarea, select, .q-field, .q-menu, .q-dialog")) return;
    if ([" ", "Enter"].includes(event.key) && event.target.closest("button, a")) return;
    const key = event.key === "Backspace" ? "u" : event.key;
    const buttons = [...document.querySelectorAll("[data-action][data-key]")];
    const button =
      buttons.find((each) => each.dataset.key === key) || buttons.find((each) => each.dataset.key === key.toLowerCase());
    if (!button) return;
    event.preventDefault();
    send(button);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-action]");
    if (button) send(button);
  });
})();
