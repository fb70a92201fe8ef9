// A block of code that is too wide is given to the keyboard by the theme, when the page is loaded or resized. What was
// folded then had no width yet: look again when the reader unfolds it.
document.addEventListener("click", (event) => {
  if (event.target.closest(".toggle-button, summary")) setTimeout(() => window.dispatchEvent(new Event("resize")));
});
