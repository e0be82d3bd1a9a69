// From the page's texts to pixels. Cases lie in script elements of their own and are parsed when they are opened:
// a page of 15 MB appears at once.

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function readCase(name) {
  const element = [...document.querySelectorAll("script[data-case]")].find((one) => one.dataset.case === name);
  return element ? JSON.parse(element.textContent) : null;
}

function decodeImage(base64) {
  return createImageBitmap(new Blob([bytesOf(base64)], { type: "image/webp" }));
}

// An empty text is a slice without any label.
async function decodeLabels(base64, length) {
  if (!base64) return new Uint8Array(length);
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
