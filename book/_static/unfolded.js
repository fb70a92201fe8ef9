// A block of code that is too wide is given to the keyboard by the theme, when the page is loaded or resized. What was
// folded then, or in a tab that was not shown, had no width yet: look again when the reader opens it.
const lookAgain = () => setTimeout(() => window.dispatchEvent(new Event("resize")));
document.addEventListener("click", (event) => event.target.closest(".toggle-button, summary") && lookAgain());
document.addEventListener("change", (event) => event.target.closest(".sd-tab-set") && lookAgain());
