// Pointing at a name in a legend dims what is not of it. The page says the same without.
for (const key of document.querySelectorAll("svg text.key")) {
  const drawing = key.closest("svg");
  const style = key.classList[1];
  const others = drawing.querySelectorAll(".line, .dot, .fill");
  key.addEventListener("pointerenter", () => {
    drawing.classList.add("focused");
    for (const each of others) each.classList.toggle("dimmed", !each.classList.contains(style));
  });
  key.addEventListener("pointerleave", () => drawing.classList.remove("focused"));
}
// What is folded away is printed all the same.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
